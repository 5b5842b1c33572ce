"""A critic by rule: it reads the comparison back, and prefers the reply with fewer of the known flaws."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from openk2.gym.writing.family import WritingEnv, letter_of, verify
from openk2.schema import Message, Sampling, Task, ToolSpec

SHORT = re.compile(r"Compare: [^\n]*\nQuestion: (?P<question>.*?)\nA: (?P<a>.*)\nB: (?P<b>.*)", re.DOTALL)

Judge = Callable[[str, str, str], str]
"""What is answered on question, reply A and reply B."""


class RuleModel:
    """A chat model that answers the short comparison by a rule."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.asked: list[str] = []

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        (message,) = messages
        self.asked.append(message.content)
        shown = SHORT.fullmatch(message.content)
        assert shown is not None, message.content
        return Message("assistant", self._judge(shown["question"], shown["a"], shown["b"]))


def letters() -> dict[str, Task]:
    """The letters' tasks by question."""
    env = WritingEnv()
    return {task.payload["question"]: task for split in ("train", "heldout") for task in env.tasks(split)}


def by_flaws() -> RuleModel:
    """Prefers the better score; equally good is a tie."""
    tasks = letters()

    def judge(question: str, a: str, b: str) -> str:
        one, other = (verify(text, letter_of(tasks[question])) for text in (a, b))
        flaws = [
            sum(value for name, value in score.parts.items() if name not in ("facts", "act")) for score in (one, other)
        ]
        return "tie" if flaws[0] == flaws[1] else "A" if flaws[0] < flaws[1] else "B"

    return RuleModel(judge)
