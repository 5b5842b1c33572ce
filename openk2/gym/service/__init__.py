"""Environments as a service of their own, and the environment that talks to it (K2 §3.3)."""
