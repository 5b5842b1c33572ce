"""The K2 architecture: configuration, attention, experts, checkpoints in and out, counts (K2 §2.3)."""
