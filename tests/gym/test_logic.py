"""Logic puzzles: the solution is unique, found by enumeration from the text alone."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.config import LogicConfig
from openk2.gym.logic import LogicEnv, continuations, odd_ones, read_logic
from openk2.schema import Task

PLACES = {"first": 0, "second": 1, "third": 2, "second to last": -2, "last": -1}


def ordering_solutions(text: str) -> set[str]:
    befores = [
        (left, right) if word == "before" else (right, left)
        for left, word, right in re.findall(r"(\w+) (before|after) (\w+)\.", text)
    ]
    place = re.search(r"Who is (.+)\?", text)
    assert place is not None
    names = sorted({name for pair in befores for name in pair})
    solutions = set()
    for order in itertools.permutations(names):
        rank = {name: index for index, name in enumerate(order)}
        if all(rank[left] < rank[right] for left, right in befores):
            solutions.add(order[PLACES[place[1]]])
    return solutions


def membership_solutions(text: str) -> set[str]:
    (first, one), (_, other) = re.findall(r"(\w+): ([\d ]+)\.", text)
    sets = one.split(), other.split()
    everything = {*sets[0], *sets[1]}
    if "both" in text:
        return {number for number in everything if number in sets[0] and number in sets[1]}
    assert f"only {first} have" in text
    return {number for number in everything if number in sets[0] and number not in sets[1]}


def facts_solutions(text: str) -> set[str]:
    rows = {name: set(traits.split(", ")) for name, traits in re.findall(r"(\w+): ([a-z, ]+)\.", text)}
    formula = re.search(r"Who is (.+)\?", text)
    assert formula is not None
    terms = [(not term.startswith("not "), term.removeprefix("not ")) for term in formula[1].split(" and ")]
    return {name for name, traits in rows.items() if all((trait in traits) == holds for holds, trait in terms)}


def solutions(task: Task) -> set[str]:
    text = task.payload["question"]
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if task.kind == "ordering":
        return ordering_solutions(text)
    if task.kind == "membership":
        return membership_solutions(text)
    if task.kind == "facts":
        return facts_solutions(text)
    return set(map(str, odd_ones(numbers) if task.kind == "odd_one_out" else continuations(numbers)))


@settings(max_examples=10)
@given(seed=st.integers(0, 10**9))
def test_each_puzzle_has_exactly_its_answer_for_any_seed(seed: int) -> None:
    env = LogicEnv(LogicConfig(num_train=60, num_heldout=30, seed=seed))
    for task in (*env.tasks("train"), *env.tasks("heldout")):
        assert solutions(task) == {task.payload["answer"]}, task.payload["question"]


def test_options_are_what_the_text_offers_and_at_least_six() -> None:
    for task in LogicEnv(LogicConfig(num_train=600)).tasks("train"):
        options = task.payload["options"]
        words = re.findall(r"\w+", task.payload["question"])
        if task.kind == "sequence":
            assert options == []
        else:
            assert len(set(options)) == len(options) >= 6
            assert task.payload["answer"] in options
            assert set(options) <= set(words)


def test_no_puzzle_is_in_both_splits_even_reworded() -> None:
    env = LogicEnv(LogicConfig(num_train=1500, num_heldout=400))

    def content(task: Task) -> tuple[object, ...]:
        numbers = tuple(map(int, re.findall(r"\d+", task.payload["question"])))
        if task.kind == "odd_one_out":
            return task.kind, tuple(sorted(numbers))
        return (task.kind, numbers) if task.kind == "sequence" else (task.kind, task.payload["question"])

    assert set(map(content, env.tasks("train"))).isdisjoint(map(content, env.tasks("heldout")))


def test_prompts_are_short() -> None:
    tasks = LogicEnv(LogicConfig(num_train=1500)).tasks("train")
    lengths = [len(re.findall(r"[A-Za-z]+|\d|[^\w\s]", task.payload["question"])) for task in tasks]
    assert max(lengths) <= 45
    assert sum(lengths) / len(lengths) <= 30


@pytest.mark.parametrize(
    ("terms", "following"),
    [
        ([2, 4, 6, 8, 10], {12}),
        ([3, 6, 12, 24, 48], {96}),
        ([1, 2, 4, 5, 7], {8}),
        ([4, 7, 4, 7, 4], {7}),
        ([4, 7, 1, 4, 7], {1}),
        ([1, 2, 4, 8, 15], set()),
        ([0, 0, 0, 0, 0], {0}),
    ],
)
def test_continuations(terms: list[int], following: set[int]) -> None:
    assert continuations(terms) == following


def test_odd_ones_sees_every_trait() -> None:
    assert odd_ones([38, 30, 39, 34, 55, 33]) == {55}
    assert odd_ones([20, 24, 26, 28, 31]) == {31}  # tens and parity agree
    assert odd_ones([12, 14, 16, 18, 21, 30]) == {21}
    assert odd_ones([11, 13, 15, 17, 19, 32]) == {32, 11}  # tens and parity say 32, alike digits say 11


@pytest.mark.parametrize(
    ("options", "reply", "read"),
    [
        (["12", "34"], "34", "34"),
        (["12", "34"], "56", None),
        (["12", "34"], "12 or 34", None),
        (["Kol", "Zub"], "zub", "Zub"),
        ([], "The next is 12", "12"),
        ([], "3, 6, 9, 12", "12"),
        ([], "12, 15", None),
    ],
)
def test_reading_in_context(options: list[str], reply: str, read: str | None) -> None:
    assert read_logic(reply, {"question": "3, 6, 9, ?", "options": options}) == read
