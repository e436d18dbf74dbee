"""Intervals, paired comparisons, and relations over models. numpy and scipy, never torch."""
