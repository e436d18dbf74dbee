"""Data sets: name -> images in [0, 1] with labels. One data set a file."""
