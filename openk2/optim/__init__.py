"""MuonClip and its parts; imports nothing else of openk2 (K2 §2.1)."""
