"""A kind of programming problem, and the tasks made of it: statement, samples, hidden cases."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.gym.code.shapes import LINES, SAID, Shape, reading_main, written
from openk2.gym.single_turn import split_of
from openk2.schema import Task

Draw = Callable[[Random, int], list[Any]]
"""Arguments of about a size, from 0 on: 0 is the smallest there is."""

FAMILY = "code"
NUM_SAMPLES = 3
_SIZES = (
    0,
    1,
    1,
    1,
    2,
    2,
    2,
    3,
    3,
    3,
    4,
    4,
    5,
    5,
    5,
    6,
    6,
    6,
    7,
    7,
    7,
    8,
    8,
    8,
    8,
    8,
    8,
    8,
)  # of hidden cases; the large ones come on top
_NUM_LARGE = 2
_SAMPLE_SIZES = (3, 4, 5, 6)
_MOST_DRAWS = 300
REPLY = "Reply with the whole program in one fenced block; of several blocks the last counts."


@dataclass(frozen=True, slots=True)
class Kind:
    """Problems alike but for two numbers, ``k`` and ``m``.

    ``source`` is a function of the kind's name that solves it at any size, with ``K`` and ``M`` for the numbers; ``slow`` is the plain
    way, and decides what is right. ``large`` is the size of the largest cases, for which the plain way takes too
    long where ``slow_to`` is less. ``told`` says what to do, with {k}, {m} and the names of the parameters.
    """

    name: str
    level: int
    takes: tuple[tuple[str, Shape], ...]
    gives: Shape
    told: str
    source: str
    slow: Callable[..., Any]
    draw: Draw
    k: Sequence[int]
    m: Sequence[int] = (0,)
    large: int = 60
    slow_to: int = 10**9

    def solution(self, k: int, m: int) -> str:
        """The function that solves it."""
        return re.sub(r"\bM\b", str(m), re.sub(r"\bK\b", str(k), self.source.strip())) + "\n"

    def outputs(self, k: int, m: int, cases: Sequence[tuple[int, list[Any]]]) -> list[Any]:
        """What is right for arguments of some size: by the plain way, by the solution where that takes too long."""
        space: dict[str, Any] = {}
        exec(compile(self.solution(k, m), self.name, "exec"), space)
        return [
            self.slow(*given, k=k, m=m) if size <= self.slow_to else space[self.name](*given) for size, given in cases
        ]

    def task(self, k: int, m: int, rng: Random, topic: str) -> Task:
        """A problem of this kind as a function or as a program that reads stdin, with samples and hidden cases."""
        stdin = rng.random() < 0.4
        samples, hidden = self._cases(rng, k, m)
        solution = self.solution(k, m)
        shapes = tuple(shape for _, shape in self.takes)
        if stdin:
            solution += reading_main(self.name, shapes, self.gives)
            samples, hidden = (
                [("".join(map(written, shapes, given)), written(self.gives, wanted)) for given, wanted in some]
                for some in (samples, hidden)
            )
        text = (self._program_text if stdin else self._function_text)(self.told.format(k=k, m=m), samples)
        payload = {
            "question": text,
            "answer": solution,
            "function": None if stdin else self.name,
            "inputs": [given for given, _ in hidden],
            "outputs": [wanted for _, wanted in hidden],
            "samples": [list(sample) for sample in samples],
        }
        name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        tags = (topic, self.name, "program" if stdin else "function")
        return Task(
            f"{FAMILY}-{topic}-{name}",
            FAMILY,
            topic,
            self.split(k, m),
            payload,
            tags=tags,
            difficulty=(self.level - 1) / 2,
        )

    def split(self, k: int, m: int) -> str:
        """The split of a problem, whatever samples it shows."""
        return split_of(f"{self.name} {k} {m}")

    def _cases(self, rng: Random, k: int, m: int) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
        """Samples, and hidden cases that neither the samples' values nor any one value would pass."""
        for _ in range(_MOST_DRAWS):
            drawn = [(size, self.draw(rng, size)) for size in (*_SAMPLE_SIZES, *_SIZES, *((self.large,) * _NUM_LARGE))]
            pairs = list(zip((given for _, given in drawn), self.outputs(k, m, drawn), strict=True))
            samples, hidden = pairs[:NUM_SAMPLES], pairs[len(_SAMPLE_SIZES) :]
            shown = [given for given, _ in samples]
            fresh = [pair for pair in hidden if pair[0] not in shown]
            seen = {repr(wanted) for _, wanted in samples}
            values = {repr(wanted) for _, wanted in fresh}
            varied = values == {"True", "False"} and seen == values if self.gives == "bool" else len(values - seen) > 2
            if varied and len(seen) > 1:
                return samples, fresh
        raise ValueError(f"{self.name} with {k} and {m} never varies enough to be a problem")

    def _function_text(self, told: str, samples: Sequence[tuple[Any, Any]]) -> str:
        parameters = ", ".join(name for name, _ in self.takes)
        taken = " and ".join(f"{name} ({SAID[shape]})" for name, shape in self.takes)
        shown = "\n".join(f"{self.name}({', '.join(map(repr, given))}) returns {wanted!r}" for given, wanted in samples)
        return (
            f"Write a Python function {self.name}({parameters}) that takes {taken} and returns {SAID[self.gives]}.\n"
            f"{told}\n\nFor example:\n{shown}\n\n{REPLY}"
        )

    def _program_text(self, told: str, samples: Sequence[tuple[str, str]]) -> str:
        lines = "; then ".join(f"{name}: {LINES[shape]}" for name, shape in self.takes)
        shown = "\n".join(f"Input:\n{given}Output:\n{wanted}" for given, wanted in samples)
        return (
            f"Write a Python program that reads from standard input {lines}. It prints {LINES[self.gives]}.\n"
            f"{told}\n\nFor example:\n{shown}\n{REPLY}"
        )
