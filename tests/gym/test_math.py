"""Arithmetic questions, solved again from their text alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.config import ArithmeticConfig
from openk2.gym.math import ArithmeticEnv, read_arithmetic
from openk2.schema import Task


def solved(task: Task) -> int:
    text = task.payload["question"]
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if task.kind == "comparison":
        return max(numbers) if "largest" in text else min(numbers)
    first, second = numbers
    if task.kind == "sum":
        return first + second
    if task.kind == "difference":
        return second - first if text.startswith("Take") else first - second
    if task.kind == "missing_addend":
        return second - first
    return first + second if re.search(r"\bnow\?|together", text) else first - second


def addends(task: Task) -> tuple[int, ...]:
    """What the split goes with."""
    numbers = [int(number) for number in re.findall(r"\d+", task.payload["question"])]
    if task.kind == "comparison":
        return tuple(sorted(numbers))
    adds = task.kind == "sum" or (task.kind == "story" and solved(task) == sum(numbers))
    return tuple(sorted(numbers if adds else (min(numbers), max(numbers) - min(numbers))))


@settings(max_examples=12)
@given(seed=st.integers(0, 10**9))
def test_answers_are_right_and_splits_disjoint_for_any_seed(seed: int) -> None:
    env = ArithmeticEnv(ArithmeticConfig(num_train=90, num_heldout=60, seed=seed))
    train, heldout = env.tasks("train"), env.tasks("heldout")
    for task in (*train, *heldout):
        assert solved(task) == int(task.payload["answer"]) >= 0
    assert {addends(task) for task in train}.isdisjoint(addends(task) for task in heldout)


def test_splits_of_different_seeds_are_disjoint_too() -> None:
    one = ArithmeticEnv(ArithmeticConfig(num_train=600, seed=1)).tasks("train")
    other = ArithmeticEnv(ArithmeticConfig(num_heldout=300, seed=2)).tasks("heldout")
    assert {addends(task) for task in one}.isdisjoint(addends(task) for task in other)


def test_questions_are_short_and_varied() -> None:
    tasks = ArithmeticEnv(ArithmeticConfig(num_train=3000)).tasks("train")
    for task in tasks:
        assert len(re.findall(r"[A-Za-z]+|\d|[^\w\s]", task.payload["question"])) <= 25
    shapes = {re.sub(r"\d+|\b[A-Z][a-z]{2}\b(?! many)", "#", task.payload["question"]) for task in tasks}
    assert len(shapes) > 30


@pytest.mark.parametrize(
    ("question", "options", "reply", "read"),
    [
        ("What is 10 - 5?", [], "5", "5"),
        ("What is 10 - 5?", [], "10 - 5 = 5", "5"),
        ("What is 10 - 5?", [], "10 - 5", None),
        ("? + 5 = 12", [], "7 + 5 = 12", "12"),  # completes the equation, answers another question
        ("? + 5 = 12", [], "12 - 5 = 7", "7"),
        ("Which is the largest: 10, 35?", ["10", "35"], "35.0", "35"),
        ("Which is the largest: 10, 35?", ["10", "35"], "10, 35", None),
    ],
)
def test_reading_in_context(question: str, options: list[str], reply: str, read: str | None) -> None:
    assert read_arithmetic(reply, {"question": question, "options": options}) == read
