"""The checkpoint engine: a trainer's weights to inference replicas, all or nothing (K2 §3.3)."""
