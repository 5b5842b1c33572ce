"""Letters: the checker sees each flaw and every right form, the writer writes what it says it writes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.config import QuestionsConfig
from openk2.gym.writing.family import WritingEnv, demonstrations, letter_of, verify
from openk2.gym.writing.letters import Letter, question_of
from openk2.gym.writing.things import Thing
from openk2.gym.writing.writer import FLAWS, Flaw, flawed, good
from openk2.schema import JSON, Task
from tests.gym import judged

LETTERS = {
    "room": Letter("describe", "Zub", (Thing("room", "12", {"price": "80", "floor": "3", "view": "sea"}),), 30),
    "party": Letter("announce", "Kim", (Thing("party", "55", {"day": "friday", "hour": "9", "floor": "2"}),), 30),
    "thanks": Letter("thank", "Bod", (Thing("parcel", "31", {"day": "monday", "boxes": "4"}),), 30),
    "sorry": Letter("apologise", "Geg", (Thing("order", "42", {"delay": "14", "day": "friday"}),), 30),
    "boats": Letter(
        "compare",
        "Rel",
        (
            Thing("boat", "46", {"age": "8", "colour": "red"}),
            Thing("boat", "89", {"age": "21", "colour": "green"}),
        ),
        30,
    ),
    "choice": Letter(
        "recommend",
        "Dos",
        (
            Thing("room", "14", {"price": "38", "view": "lake"}),
            Thing("room", "97", {"price": "185", "view": "sea"}),
        ),
        20,
        ("price", "low"),
    ),
}
"""What the replies judged by hand answer."""


def accepts(row: JSON) -> bool:
    return verify(row["reply"], LETTERS[row["letter"]]).passed


def some(split: str = "train", count: int = 180) -> list[Task]:
    return list(WritingEnv().tasks(split)[:count])


# ---------------------------------------------------------------------------------------------
# The checker
# ---------------------------------------------------------------------------------------------


def test_near_misses_are_judged_as_a_person_judged_them() -> None:
    assert len(list(judged.rows("writing"))) >= 100
    assert judged.unexpected("writing") == []


def test_no_reply_that_a_person_refuses_is_taken() -> None:
    assert judged.accuracy("writing")["false_accepts"] == 0


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_good_letters_pass_and_every_flaw_is_told_by_its_name(split: str) -> None:
    for task in some(split):
        letter, rng = letter_of(task), random.Random(task.id)
        assert verify(good(letter, rng), letter).passed
        for flaw in FLAWS:
            reply = flawed(letter, flaw, rng)
            score = verify(reply, letter)
            assert not score.passed
            found = {name for name in FLAWS if score.parts[name]}
            # Who says a fact wrong has not said it right.
            assert found - {"missing"} == {flaw} - {"missing"}, reply
            assert score.parts[flaw], reply


def test_the_answer_of_a_task_is_a_letter_that_passes() -> None:
    assert all(verify(task.payload["answer"], letter_of(task)).passed for task in some())


@pytest.mark.parametrize(
    ("reply", "flaws"),
    [
        ("Hello Zub. Room 12 has price 80, floor 3 and view sea.", set()),
        ("What a great question! Hello Zub. Room 12 has price 80, floor 3 and view sea.", {"praise"}),
        ("Hello Zub. Room 12 has price 80, floor 3 and view sea. My answer is complete.", {"justification"}),
        ("Hello Zub. Room 12 has price 80, floor 3 and view sea. Cats like milk.", {"off_topic"}),
        ("Hello Zub. Room 12 has price 80, floor 3 and view sea and a bath.", {"wrong", "missing"}),
        ("Hello Zub. Room 12 has price 80 and floor 3.", {"missing"}),
        ("Hello Zub. Room 12 has price 80, floor 3 and view sea." + " The price is 80." * 6, {"verbose"}),
        ("", {"missing"}),
    ],
)
def test_parts_name_the_flaws(reply: str, flaws: set[Flaw]) -> None:
    parts = verify(reply, LETTERS["room"]).parts
    assert {name for name in FLAWS if parts[name]} == flaws


def test_what_tells_no_fact_earns_nothing_and_more_earns_more() -> None:
    said = [
        "Hello Zub.",
        "Room 12 has price 80.",
        "Hello Zub. Room 12 has price 80.",
        "Zub, room 12: price 80, floor 3.",
    ]
    totals = [verify(reply, LETTERS["room"]).total for reply in said]
    assert totals[0] == 0
    assert totals == sorted(set(totals))
    assert totals[-1] < 1


@given(st.text(max_size=200), st.sampled_from(sorted(LETTERS)))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_checker(text: str, name: str) -> None:
    assert 0 <= verify(text, LETTERS[name]).total < 1


WORDS = "Zub Room 12 13 has price 80 81 floor 3 view sea lake and is not . , for of great answer".split()  # noqa: SIM905


@given(st.lists(st.sampled_from(WORDS), max_size=24))
@settings(max_examples=500, deadline=None)
def test_no_shuffled_words_pass_that_say_what_is_not_so(words: list[str]) -> None:
    if verify(" ".join(words), LETTERS["room"]).passed:
        assert not {"13", "81", "lake", "not", "great", "answer"} & set(words)
        assert {"Zub", "80", "3", "sea"} <= set(words)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["a ", "room 12 ", "80 ", ".", "\n", "price 80 for room 12 ", "!", "room room "])
def test_a_huge_reply_is_read_at_once(part: str) -> None:
    for letter in LETTERS.values():
        assert not verify(part * (100_000 // len(part)), letter).passed


# ---------------------------------------------------------------------------------------------
# The questions
# ---------------------------------------------------------------------------------------------


def test_the_wish_decides_what_is_recommended() -> None:
    for task in some():
        letter = letter_of(task)
        if letter.chosen is not None and letter.wished is not None:
            attribute, end = letter.wished
            values = sorted(int(thing.facts[attribute]) for thing in letter.things)
            assert int(letter.chosen.facts[attribute]) == values[0 if end == "low" else -1]
            assert len(set(values)) == len(values)
            assert f"of {end} {attribute}" in task.payload["question"]


def test_a_question_shows_all_that_its_letter_says() -> None:
    for task in some():
        letter, question = letter_of(task), task.payload["question"]
        assert question == question_of(letter)
        for thing in letter.things:
            assert thing.name in question
            assert all(f"{name} {value}" in question for name, value in thing.facts.items())


def test_questions_and_letters_are_short() -> None:
    for messages in demonstrations(WritingEnv().tasks("train")[:300], 0.0, 0):
        assert len(messages[0].content.split()) <= 45
        assert len(messages[1].content.split()) <= 30


def test_splits_share_no_facts_and_are_the_same_again() -> None:
    config = QuestionsConfig(num_train=200, num_heldout=50)
    env = WritingEnv(config)
    facts = [{str(task.payload["things"]) for task in env.tasks(split)} for split in ("train", "heldout")]
    assert not facts[0] & facts[1]
    assert WritingEnv(config.model_copy(update={"num_train": 100})).tasks("train") == env.tasks("train")[:100]


# ---------------------------------------------------------------------------------------------
# The imperfect teacher
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_so_many_demonstrations_are_flawed_as_is_asked_for(rate: float) -> None:
    tasks, found = some(count=600), Counter[str]()
    shown = list(demonstrations(WritingEnv().tasks("train")[:600], rate, 0))
    for task, (question, reply) in zip(tasks, shown, strict=True):
        assert question.content == task.payload["question"]
        score = verify(reply.content, letter_of(task))
        found["passed"] += score.passed
        found.update(flaw for flaw in FLAWS if score.parts[flaw])
    assert found["passed"] == pytest.approx(600 * (1 - rate), abs=60 if 0 < rate < 1 else 0)
    if rate:
        assert all(found[flaw] > 600 * rate / 6 * 0.6 for flaw in FLAWS)
    assert shown == list(demonstrations(WritingEnv().tasks("train")[:600], rate, 0))
    assert rate in (0.0,) or shown != list(demonstrations(WritingEnv().tasks("train")[:600], rate, 1))


def test_an_episode_is_a_question_and_a_reply() -> None:
    from openk2.gym.agents import play
    from openk2.gym.writing import FAMILY

    trace = asyncio.run(play(FAMILY.make(), some()[0], FAMILY.gold))
    assert trace.score is not None
    assert trace.score.passed
    assert [message.role for message in trace.messages] == ["user", "assistant"]
