"""The training step and what drives it (K2 §2.5, §3)."""
