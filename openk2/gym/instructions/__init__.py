"""Instruction following: replies that keep to verifiable demands on form and content (K2 §3.2)."""

from openk2.gym.instructions.environment import FAMILY

__all__ = ["FAMILY"]
