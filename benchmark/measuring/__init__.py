"""What is done with one model: it is trained, inspected, measured, and its examples judged."""
