import json

import pytest

from openk2.schema import CallError, Message, ToolCall
from openk2.worlds.neighbours.calls import Wanted, answer, judge_turn


def play(artist):
    return Wanted("play", {"fields": {"artist": {"text": artist}}, "optional": []})


def reply(*artists, content="", name="play"):
    return Message("assistant", content, [ToolCall("", name, json.dumps({"artist": each})) for each in artists])


TWO = {"answers": [answer([play("Taylor Swift"), play("Maroon 5")])]}


def test_calls_may_come_in_any_order_but_each_counts_once():
    assert judge_turn(TWO, reply("maroon 5", "taylor swift")).passed
    for wrong in (reply("Maroon 5"), reply("Maroon 5", "Maroon 5"), reply("Maroon 5", "Taylor Swift", "Maroon 5")):
        assert judge_turn(TWO, wrong).total == 0


def test_pairing_looks_back_when_the_first_fit_was_another_ones():
    either = Wanted("play", {"fields": {"artist": {"any_of": [{"text": "a"}, {"text": "b"}]}}, "optional": []})
    assert judge_turn({"answers": [answer([either, play("a")])]}, reply("a", "b")).passed


def test_the_parts_say_what_went_wrong():
    def parts(message):
        return list(judge_turn(TWO, message).parts.values())

    assert parts(None) == [0, 0, 0]
    assert parts(reply("Maroon 5", "Taylor Swift")) == [1, 1, 1]
    assert parts(reply("Maroon 5", "Madonna")) == [1, 1, 0]
    assert parts(reply("Maroon 5", "Taylor Swift", name="stop")) == [1, 0, 0]


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("", "play", "{", CallError.BAD_JSON),
        ToolCall("", "play", "{"),
        ToolCall("", "play", "[]"),
        ToolCall("", "play", "[" * 100_000),
        ToolCall("", "play", '{"artist": "x"}', CallError.TRUNCATED),
    ],
)
def test_a_malformed_call_is_never_right(call):
    for answers in (TWO["answers"], [answer()], [answer([play("x")])]):
        assert judge_turn({"answers": answers}, Message("assistant", "", [call])).total == 0


def test_where_no_call_is_right_any_call_is_wrong():
    payload = {"answers": [answer()]}
    assert judge_turn(payload, Message("assistant", "I cannot.")).passed
    assert judge_turn(payload, reply("x")).total == 0
    assert judge_turn(payload, None).total == 0


def test_words_must_be_said_without_a_call():
    payload = {"answers": [answer(says=["Missing", "city"])]}
    assert judge_turn(payload, Message("assistant", "Missing: the city")).passed
    assert judge_turn(payload, Message("assistant", "Missing: the zip")).total == 0
    assert judge_turn(payload, reply("x", content="Missing: the city")).total == 0


def test_one_answer_of_several_is_enough():
    payload = {"answers": [answer([play("a")]), answer([play("b")])]}
    assert judge_turn(payload, reply("b")).passed
    assert judge_turn(payload, reply("a", "b")).total == 0
