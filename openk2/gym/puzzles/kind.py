"""What a kind of puzzle is: drawn, judged, guessed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openk2.gym.single_turn import Generator

Judge = Callable[[str, Mapping[str, Any]], bool | None]
"""Whether a final answer solves the puzzle of a payload; None for a text that is no answer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``guess`` is an answer of the right form, drawn from the payload without its ``answer``.

    ``full_stop`` says that one behind the answer is not a part of it.
    """

    draw: Generator
    judge: Judge
    guess: Callable[[Mapping[str, Any], random.Random], str]
    full_stop: bool = True
