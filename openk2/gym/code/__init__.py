"""Programming problems with hidden tests that run in a sandbox (K2 §3.2)."""

from openk2.gym.code.env import FAMILY

__all__ = ["FAMILY"]
