"""Arithmetic with exact answers, small enough for a model of a million parameters (K2 §3.2, math and STEM)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from openk2.gym.answer import numbers_in, read_number, shortest
from openk2.gym.config import ArithmeticConfig
from openk2.gym.family import Family
from openk2.gym.names import invented_names
from openk2.gym.single_turn import Generator, Question, SingleTurnEnv, right_answer
from openk2.schema import Message, Observation, Task

_THINGS = ("pens", "cups", "keys", "nuts", "books", "coins")
_NUM_COMPARED = 6


class ArithmeticEnv(SingleTurnEnv):
    """Sums, differences, missing addends, stories and comparisons; the reply is read by ``answer.read_number``.

    The split of a sum goes with its two addends, whatever is asked about them: when 7 + 5 is held out, so are 5 + 7,
    12 - 5, 12 - 7, the missing addend and the stories.
    """

    def __init__(self, config: ArithmeticConfig | None = None) -> None:
        config = config or ArithmeticConfig()
        super().__init__("math", {kind: _GENERATORS[kind] for kind in config.kinds}, read_arithmetic, config)


def read_arithmetic(reply: str, payload: Mapping[str, Any]) -> str | None:
    """The number the reply answers with, in its shortest form.

    Numbers of the question may be said again, except where they are what to choose from.
    """
    given = () if payload["options"] else numbers_in(payload["question"])
    number = read_number(reply, given)
    return None if number is None else shortest(number)


def _addends(rng: random.Random, level: int) -> tuple[int, int]:
    one, two = rng.randint(1, 9), rng.randint(10, 49)
    if level == 1:
        return one, rng.randint(1, 9)
    return (one, two) if level == 2 else (two, rng.randint(10, 49))


def _key(*numbers: int) -> str:
    return " ".join(map(str, sorted(numbers)))


def _sum(rng: random.Random, level: int) -> Question:
    a, b = _shuffled(rng, _addends(rng, level))
    text = rng.choice((f"What is {a} + {b}?", f"{a} + {b} =", f"Add {a} and {b}.", f"How much is {a} plus {b}?"))
    return Question(text, str(a + b), _key(a, b))


def _difference(rng: random.Random, level: int) -> Question:
    a, b = _shuffled(rng, _addends(rng, level))
    total = a + b
    wordings = (
        f"What is {total} - {b}?",
        f"{total} - {b} =",
        f"Take {b} from {total}.",
        f"How much more is {total} than {b}?",
    )
    return Question(rng.choice(wordings), str(a), _key(a, b))


def _missing_addend(rng: random.Random, level: int) -> Question:
    a, b = _shuffled(rng, _addends(rng, level))
    wordings = (f"? + {b} = {a + b}", f"{b} + ? = {a + b}", f"What number plus {b} is {a + b}?")
    return Question(rng.choice(wordings), str(a), _key(a, b))


def _story(rng: random.Random, level: int) -> Question:
    a, b = _shuffled(rng, _addends(rng, level))
    total = a + b
    (name, other), thing = invented_names(rng, 2), rng.choice(_THINGS)
    stories = (
        (f"{name} has {a} {thing} and gets {b} more. How many {thing} now?", total),
        (f"{name} has {a} {thing}, {other} has {b}. How many {thing} together?", total),
        (f"{name} has {total} {thing} and gives {b} to {other}. How many {thing} are left?", a),
        (f"{name} has {total} {thing}, {other} has {b}. How many more has {name}?", a),
    )
    text, answer = rng.choice(stories)
    return Question(text, str(answer), _key(a, b))


def _comparison(rng: random.Random, level: int) -> Question:
    if level == 1:  # the tens decide
        numbers = [10 * tens + rng.randint(0, 9) for tens in rng.sample(range(1, 10), _NUM_COMPARED)]
    elif level == 2:
        numbers = rng.sample(range(10, 100), _NUM_COMPARED)
    else:  # close together: the ones decide
        start = rng.randint(1, 8) * 10
        numbers = rng.sample(range(start, start + 20), _NUM_COMPARED)
    word, answer = rng.choice((("largest", max(numbers)), ("smallest", min(numbers))))
    listed = ", ".join(map(str, numbers))
    text = rng.choice((f"Which is the {word}: {listed}?", f"{listed}: which number is {word}?"))
    return Question(text, str(answer), _key(*numbers), tuple(map(str, numbers)))


def _shuffled(rng: random.Random, pair: tuple[int, int]) -> tuple[int, int]:
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


_GENERATORS: dict[str, Generator] = {
    "sum": _sum,
    "difference": _difference,
    "missing_addend": _missing_addend,
    "story": _story,
    "comparison": _comparison,
}


def _guess(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", str(rng.choice(task.payload["options"] or range(100))))]


FAMILY = Family("math", "small arithmetic in words and digits", ArithmeticEnv, right_answer, _guess, chance=0.12)
