"""Plots, one a file: the function named as its file draws a run as {file stem: figure}, empty without data."""
