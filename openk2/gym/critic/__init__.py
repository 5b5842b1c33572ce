"""Rewards for what cannot be verified: the policy itself, or an endpoint, compares answers under rubrics (K2 §3.2)."""
