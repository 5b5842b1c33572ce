"""Pre-training text: sources, generated documents, token stores and streams (K2 §2.2)."""
