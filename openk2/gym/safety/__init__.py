"""What a model must refuse and what it must answer, under attack (K2 §3.2, safety; §4, red team)."""

from openk2.gym.safety.family import FAMILY

__all__ = ["FAMILY"]
