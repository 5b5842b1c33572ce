"""Measuring a policy (K2 §4)."""
