"""Software engineering: mend a repository until its hidden tests pass (K2 §3.2)."""

from openk2.gym.swe.env import FAMILY

__all__ = ["FAMILY"]
