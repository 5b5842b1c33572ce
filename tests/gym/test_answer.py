"""Accepted and refused replies."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.answer import numbers_in, read_choice, read_number, shortest
from tests.gym.judged import SAYS, rows, unexpected

GIVEN = {Decimal(7), Decimal(5)}  # of "What is 7 + 5?"

ACCEPTED = [
    "12",
    " 12\n",
    "12.",
    "12.0",
    "12.00",
    "+12",
    "= 12",
    "12!",
    "**12**",
    "\\boxed{12}",
    "$12",
    "12 pens",
    "It is 12.",
    "Answer: 12",
    "The answer is 12.",
    "7 + 5 = 12",
    "7+5=12",
    "7 + 5 = 10 + 2 = 12",
    "7 plus 5 is 12.",
    "He has 7 and gets 5, so he has 12 pens.",
    "12, because 7 + 3 = 10 and 10 + 2 = 12",
    "Maybe 11? No: I count again. The answer is 12",
    "12\n12",
]
REFUSED = [
    "",
    "   ",
    "twelve",
    "7 + 5",
    "What is 7 + 5?",
    "10, 11, 12",
    "10 11 12",
    "10,11,12",
    "10\n11\n12",
    "11 or 12",
    "12 or 13",
    "10 = 11 = 12",
    "12 - 0",
    "24/2",
    "6 * 2",
    "12th",
    "12%",
    "1e1",
    "012",
    "12.5.1",
    "0x0c",
    "1 2",
    "12pens",
    "١٢",
    "Ⅻ",
    "①②",
    "It is not 12.",
    "It isn't 12",
    "Answer: 11. Answer: 12",
    "9" * 10_000,
    "12." + "0" * 50 + "1",
    "I solved it, the answer is correct.",
    "12 of 13",
]
OTHER = [("-12", -12), ("= −12", -12), ("7 - -2 = 9", 9), ("1,000", 1000), ("12.5", "12.5"), ("0", 0), ("13", 13)]


@pytest.mark.parametrize("reply", ACCEPTED)
def test_accepted(reply: str) -> None:
    assert read_number(reply, GIVEN) == 12


@pytest.mark.parametrize("reply", REFUSED)
def test_refused(reply: str) -> None:
    assert read_number(reply, GIVEN) is None


@pytest.mark.parametrize(("reply", "number"), OTHER)
def test_reads_as_written(reply: str, number: int | str) -> None:
    assert read_number(reply, GIVEN) == Decimal(number)


def test_where_the_choice_is_among_given_numbers_none_may_be_repeated() -> None:
    assert read_number("7", ()) == 7
    assert read_number("7 is larger than 5", ()) is None
    assert read_number("5 < 7", ()) is None


@pytest.mark.parametrize(("number", "text"), [("12.00", "12"), ("1000", "1000"), ("-3", "-3"), ("1.50", "1.50")])
def test_shortest(number: str, text: str) -> None:
    assert shortest(Decimal(number)) == text


def test_numbers_in() -> None:
    assert numbers_in("Zub has 13 nuts, Kol 5.") == {Decimal(13), Decimal(5)}


NAMES = ["Zub", "Kol", "Mir"]


@pytest.mark.parametrize(
    "reply", ["Zub", "zub.", "It is Zub!", "ZUB is first", "Not Kol. The answer is Zub", "**Zub**"]
)
def test_choice_accepted(reply: str) -> None:
    assert read_choice(reply, NAMES) == "Zub"


@pytest.mark.parametrize(
    "reply",
    ["", "Zu", "Zubs", "Zub's", "Zub or Kol", "Zub, Kol, Mir", "not Zub", "It isn’t Zub", "Answer: Zub answer: Zub"],
)
def test_choice_refused(reply: str) -> None:
    assert read_choice(reply, NAMES) is None


@pytest.mark.parametrize("family", ["math", "logic"])
def test_replies_are_judged_as_by_hand(family: str) -> None:
    assert unexpected(family) == []
    known = [row for row in rows(family) if row.get("known")]
    assert all(SAYS[family](row) != row["right"] for row in known), "a known fault is mended: take its mark away"


@settings(max_examples=200)
@given(st.text(max_size=80) | st.text("0123456789+-*/=., \n", max_size=40))
def test_any_text_can_be_read(reply: str) -> None:
    number = read_number(reply, GIVEN)
    assert number is None or number.is_finite()
    assert read_choice(reply, NAMES) in (None, *NAMES)


@given(st.lists(st.integers(0, 99), min_size=2, max_size=5, unique=True), st.sampled_from([", ", " ", " or ", "\n"]))
@settings(max_examples=100)
def test_several_fresh_numbers_are_no_answer(numbers: list[int], between: str) -> None:
    if len({Decimal(number) for number in numbers} - GIVEN) > 1:
        assert read_number(between.join(map(str, numbers)), GIVEN) is None
