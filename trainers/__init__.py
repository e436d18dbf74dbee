"""Middle floor: how classifiers are made. One training method a file."""
