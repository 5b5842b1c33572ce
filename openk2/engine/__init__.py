"""Inference: cache, sampler, engine (K2 §3.3)."""
