"""One file a command, each with one function of its name: it parses, makes one call and prints."""
