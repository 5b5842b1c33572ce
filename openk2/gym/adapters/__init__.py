"""Environments that others made, behind the Env protocol: one file for each kind."""
