"""The files of a run's folder, and what is shared between runs; all of it written through `benchmark/store.py`."""
