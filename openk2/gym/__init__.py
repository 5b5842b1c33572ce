"""Environments with verifiable rewards, one file per family (K2 §3.2)."""
