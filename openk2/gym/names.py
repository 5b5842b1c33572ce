"""Invented names: an open vocabulary, so that a model reads a name instead of remembering it."""

from __future__ import annotations

import random

_ONSETS = "bdfgjklmnprstvwz"
_VOWELS = "aeiou"
_CODAS = "bdfgklmnprstvxz"
_TAKEN = {"Big", "Nor", "Not", "Red"}  # words that mean something in a question or an answer


def invented_names(rng: random.Random, count: int) -> list[str]:
    """``count`` different three-letter names such as "Zub", out of 1200."""
    names: dict[str, None] = {}
    while len(names) < count:
        name = (rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)).capitalize()
        if name not in _TAKEN:
            names[name] = None
    return list(names)
