"""Others' rewards, on any scale, as a verdict of ours."""

from __future__ import annotations

import math
from typing import Literal

from openk2.schema import Score

Rule = Literal["sum", "last"]
"""Which of an episode's rewards count: all of them, or the last."""


def verdict(rewards: list[float], rule: Rule, passes_at: float, *, ended: bool) -> Score:
    """1 where the episode came to its own end with at least ``passes_at``, else 0. Parts: ``ended``, and ``reward`` as it was."""
    reward = sum(rewards) if rule == "sum" else rewards[-1] if rewards else 0.0
    if not math.isfinite(reward):
        return Score(0.0, {"ended": float(ended), "not_finite": 1.0})
    return Score(float(ended and reward >= passes_at), {"ended": float(ended), "reward": reward})
