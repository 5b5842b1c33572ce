"""Many devices: memory on paper (K2 §2.4)."""
