"""Classifiers: one architecture a file, without normalisation; `base.build` puts it inside."""
