"""Ground floor: what is measured of a classifier. One measure a file, in family folders."""
