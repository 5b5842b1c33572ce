"""Small logic puzzles with one provable solution, over invented names and numbers (K2 §3.2, logic).

No puzzle is answered by yes or no: each has at least six answers to choose from, so guessing pays 1/6 at most.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openk2.gym.answer import numbers_in, read_choice, read_number, shortest
from openk2.gym.config import LogicConfig
from openk2.gym.family import Family
from openk2.gym.names import invented_names
from openk2.gym.single_turn import Generator, Question, SingleTurnEnv, right_answer
from openk2.schema import Message, Observation, Task

_NUM_OPTIONS = 6


class LogicEnv(SingleTurnEnv):
    """Ordering, odd one out, next of a sequence, set membership, and facts.

    The split of a puzzle goes with its content: the chain of names, the numbers, the rows of facts.
    """

    def __init__(self, config: LogicConfig | None = None) -> None:
        config = config or LogicConfig()
        super().__init__("logic", {kind: _GENERATORS[kind] for kind in config.kinds}, read_logic, config)


def read_logic(reply: str, payload: Mapping[str, Any]) -> str | None:
    """The option the reply names, or, where no options are listed, the number it answers with."""
    options = payload["options"]
    if options and not options[0].isdecimal():
        return read_choice(reply, options)
    number = read_number(reply, () if options else numbers_in(payload["question"]))
    read = None if number is None else shortest(number)
    return read if not options or read in options else None


# ---------------------------------------------------------------------------------------------
# Ordering: who stands where in a chain
# ---------------------------------------------------------------------------------------------

_PLACES = {0: "first", 1: "second", 2: "third", _NUM_OPTIONS - 2: "second to last", _NUM_OPTIONS - 1: "last"}


def _ordering(rng: random.Random, level: int) -> Question:
    """Level 1 tells the chain in order and asks for an end; 2 shuffles it; 3 mixes before and after, asks inside."""
    names = invented_names(rng, _NUM_OPTIONS)
    clues = [f"{left} before {right}." for left, right in itertools.pairwise(names)]
    if level == 3:
        clues = [rng.choice((clue, "{2} after {0}.".format(*clue[:-1].split()))) for clue in clues]
    if level > 1:
        rng.shuffle(clues)
    place = rng.choice([place for place in _PLACES if (0 < place < _NUM_OPTIONS - 1) == (level == 3)])
    return Question(f"{' '.join(clues)} Who is {_PLACES[place]}?", names[place], " ".join(names), tuple(sorted(names)))


# ---------------------------------------------------------------------------------------------
# Odd one out: all numbers but one share a trait
# ---------------------------------------------------------------------------------------------

TRAITS: dict[str, Callable[[int], int]] = {
    "tens digit": lambda number: number // 10,
    "ones digit": lambda number: number % 10,
    "parity": lambda number: number % 2,
    "digits alike": lambda number: int(number // 10 == number % 10),
}
"""What two-digit numbers may share. A puzzle is kept only when all of these together single out one number."""

_TRAIT_OF_LEVEL = {1: ("tens digit",), 2: ("ones digit", "digits alike"), 3: ("parity",)}


def odd_ones(numbers: Sequence[int]) -> set[int]:
    """Every number that some trait singles out: it differs there from all others, and they agree."""
    odd: set[int] = set()
    for trait in TRAITS.values():
        values = [trait(number) for number in numbers]
        alone = [number for number, value in zip(numbers, values, strict=True) if values.count(value) == 1]
        if len(alone) == 1 and len(set(values)) == 2:
            odd.update(alone)
    return odd


def _odd_one_out(rng: random.Random, level: int) -> Question:
    trait = TRAITS[rng.choice(_TRAIT_OF_LEVEL[level])]
    while True:
        odd, like = rng.sample(range(10, 100), 2)
        alike = [number for number in range(10, 100) if trait(number) == trait(like)]
        if trait(odd) == trait(like) or len(alike) < _NUM_OPTIONS - 1:
            continue
        numbers = [*rng.sample(alike, _NUM_OPTIONS - 1), odd]
        if odd_ones(numbers) == {odd}:
            break
    rng.shuffle(numbers)
    options = tuple(map(str, numbers))
    return Question(f"Which is the odd one out: {', '.join(options)}?", str(odd), " ".join(sorted(options)), options)


# ---------------------------------------------------------------------------------------------
# Sequence: what comes next
# ---------------------------------------------------------------------------------------------


def _next_by_step(terms: Sequence[int]) -> int | None:
    steps = {after - before for before, after in itertools.pairwise(terms)}
    return terms[-1] + steps.pop() if len(steps) == 1 else None


def _next_by_factor(terms: Sequence[int]) -> int | None:
    if terms[0] <= 0 or terms[1] % terms[0]:
        return None
    factor = terms[1] // terms[0]
    follows = all(before * factor == after for before, after in itertools.pairwise(terms))
    return terms[-1] * factor if follows else None


def _next_by_two_steps(terms: Sequence[int]) -> int | None:
    steps = [after - before for before, after in itertools.pairwise(terms)]
    return terms[-1] + steps[-2] if len(set(steps[::2])) == len(set(steps[1::2])) == 1 else None


def _next_by_cycle(terms: Sequence[int]) -> int | None:
    for period in (1, 2, 3):
        if all(term == terms[place % period] for place, term in enumerate(terms)):
            return terms[len(terms) % period]
    return None


SEQUENCE_RULES = (_next_by_step, _next_by_factor, _next_by_two_steps, _next_by_cycle)
"""A sequence is kept only when all rules that fit it agree on what comes next."""

_NUM_TERMS = 5


def continuations(terms: Sequence[int]) -> set[int]:
    """What each rule that fits the terms says comes next."""
    return {following for rule in SEQUENCE_RULES if (following := rule(terms)) is not None}


def _sequence(rng: random.Random, level: int) -> Question:
    """Level 1 counts up in small steps, 2 counts down or repeats a cycle, 3 alternates two steps or multiplies."""
    while True:
        if level == 1:
            terms = _steps(rng.randint(0, 40), (rng.randint(1, 5),))
        elif level == 2:
            cycle = rng.sample(range(10), rng.choice((2, 3)))
            repeated = [cycle[place % len(cycle)] for place in range(_NUM_TERMS)]
            terms = rng.choice((repeated, _steps(rng.randint(20, 99), (-rng.randint(2, 9),))))
        else:
            start, factor = rng.randint(1, 3), rng.choice((2, 3))
            powers = [start * factor**place for place in range(_NUM_TERMS)]
            stepped = _steps(rng.randint(0, 40), (rng.randint(1, 9), rng.randint(-4, 9)))
            terms = powers if rng.random() < 0.2 else stepped
        following = continuations(terms)
        if len(following) == 1 and min(terms) >= 0 and min(following) >= 0:
            break
    listed = ", ".join(map(str, terms))
    text = rng.choice((f"What comes next: {listed}?", f"{listed}, ?"))
    return Question(text, str(following.pop()), listed)


def _steps(start: int, steps: tuple[int, ...]) -> list[int]:
    return list(itertools.accumulate(itertools.islice(itertools.cycle(steps), _NUM_TERMS - 1), initial=start))


# ---------------------------------------------------------------------------------------------
# Membership: two sets, one number that is in both, or in one alone
# ---------------------------------------------------------------------------------------------

_SET_SIZE = 5


def _membership(rng: random.Random, level: int) -> Question:
    """Level 1 asks what two sets of digits share, 2 what only the first has, 3 either, with two-digit numbers."""
    first, second = invented_names(rng, 2)
    shares = level == 1 or (level == 3 and rng.random() < 0.5)
    universe = range(10) if level < 3 else range(10, 100)
    pool = rng.sample(universe, 2 * _SET_SIZE - 1 if shares else _SET_SIZE + 1)
    answer = pool[0]
    if shares:
        one, other = pool[:_SET_SIZE], [answer, *pool[_SET_SIZE:]]
        question = "Which number do both have?"
    else:
        one, other = pool[:_SET_SIZE], pool[1:]
        question = f"Which number does only {first} have?"
    rng.shuffle(one)
    rng.shuffle(other)
    text = f"{first}: {' '.join(map(str, one))}. {second}: {' '.join(map(str, other))}. {question}"
    key = f"{sorted(one)} {sorted(other)}"
    return Question(text, str(answer), key, tuple(map(str, sorted(pool))))


# ---------------------------------------------------------------------------------------------
# Facts: who satisfies a formula
# ---------------------------------------------------------------------------------------------

_COLOURS = ("red", "blue", "green")
_SIZES = ("big", "small")


def _facts(rng: random.Random, level: int) -> Question:
    """Level 1 asks for one trait, 2 for two together, 3 for a formula with "not"."""
    while True:
        names = invented_names(rng, _NUM_OPTIONS)
        colours = [rng.choice(_COLOURS) for _ in names]
        sizes = [rng.choice(_SIZES) for _ in names]
        colour, size = rng.choice(_COLOURS), rng.choice(_SIZES)
        negate_colour, negate_size = (
            rng.choice(((True, False), (False, True), (True, True))) if level == 3 else (False, False)
        )
        matching = [
            name
            for name, its_colour, its_size in zip(names, colours, sizes, strict=True)
            if (its_colour == colour) != negate_colour and (level == 1 or (its_size == size) != negate_size)
        ]
        if len(matching) == 1:
            break
    rows = [
        f"{name}: {its_colour}." if level == 1 else f"{name}: {its_colour}, {its_size}."
        for name, its_colour, its_size in zip(names, colours, sizes, strict=True)
    ]
    formula = f"{'not ' * negate_colour}{colour}" + (f" and {'not ' * negate_size}{size}" if level > 1 else "")
    text = f"{' '.join(rows)} Who is {formula}?"
    return Question(text, matching[0], " ".join(rows), tuple(sorted(names)))


_GENERATORS: dict[str, Generator] = {
    "ordering": _ordering,
    "odd_one_out": _odd_one_out,
    "sequence": _sequence,
    "membership": _membership,
    "facts": _facts,
}


def _guess(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", str(rng.choice(task.payload["options"] or range(100))))]


FAMILY = Family("logic", "orders, sets, sequences and facts over invented names", LogicEnv, right_answer, _guess, 1 / 6)
