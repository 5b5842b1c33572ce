"""Short letters over shown facts: what a self-critique is practised and measured on (K2 §3.2)."""

from openk2.gym.writing.family import FAMILY

__all__ = ["FAMILY"]
