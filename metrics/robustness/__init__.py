"""Robustness: accuracy on clean and on adversarial images."""
