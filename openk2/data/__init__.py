"""Corpora, splits and streams (K2 §2.2)."""
