"""One comparison of two answers as a dialogue: how it is asked, and how the verdict is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from openk2.gym.critic.config import Wording
from openk2.schema import Message, RubricItem
from openk2.worlds.endpoint.quote import RULE, quoted

Verdict = Literal["A", "B", "tie"]

_VERDICT = re.compile(r"\W*(?:(?:reply|answer|verdict)\b\W*)?(a|b|tie)\b\W*", re.IGNORECASE)
_INSTRUCTIONS = f"""You compare two replies to the same question. Weigh them by every rubric below; of two replies that differ in
none of them, neither is better. Which stands first is chance and says nothing. {RULE}

Rubrics:
"""
_ASK = "Which reply is better? Answer with one word: A, B or tie."


def ask(
    question: str, first: str, second: str, rubrics: Sequence[RubricItem], wording: Wording = "short"
) -> list[Message]:
    """The dialogue that asks for a verdict on ``first`` (A) and ``second`` (B).

    What all pairs of a group share stands first, so that an engine computes it once.
    """
    if wording == "short":
        names = ", ".join(rubric.name for rubric in rubrics)
        a, b = (" ".join(reply.split()) for reply in (first, second))  # no line of A poses as B
        return [Message("user", f"Compare: {names}.\nQuestion: {question}\nA: {a}\nB: {b}")]
    listed = "\n".join(f"- {rubric.name}: {rubric.spec['statement']}" for rubric in rubrics)
    shown = (quoted("question", question), quoted("A", first), quoted("B", second))
    return [Message("system", _INSTRUCTIONS + listed), Message("user", "\n".join((*shown, _ASK)))]


def read_verdict(text: str) -> Verdict | None:
    """The verdict that a text is; None where it is none, or says more."""
    match = _VERDICT.fullmatch(text)
    if match is None:
        return None
    word = match[1].lower()
    return "tie" if word == "tie" else "A" if word == "a" else "B"
