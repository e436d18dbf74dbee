"""Sanity checks: does the map depend on what the model has learnt, and on the class that it explains?"""
