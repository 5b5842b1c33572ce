"""Intervals, paired tests, pass@k and Avg@k: how sure a number is."""
