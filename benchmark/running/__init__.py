"""A run: its jobs in their order, what it tells while they are done, and how far it is."""
