"""Faithfulness: every sentence of an answer must be supported by its context (K2 §3.2)."""

from openk2.gym.faithfulness.env import FAMILY as FAMILY
