import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.schema import Rubric, RubricItem
from openk2.worlds.judge import judge, mentions, strays
from openk2.worlds.simulator import Called

BEFORE = {
    "order": {"K-1": {"id": "K-1", "status": "paid", "total": 5}, "K-2": {"id": "K-2", "status": "paid", "total": 6}}
}


def after(**changes):
    rows = {key: dict(row) for key, row in BEFORE["order"].items()}
    for key, value in changes.items():
        rows[key.replace("_", "-")] |= value
    return {"order": rows}


CANCEL = Rubric(
    (
        RubricItem("changed", "state", {"entity": "order", "key": "K-1", "field": "status", "equals": "void"}),
        RubricItem("looked_up", "call", {"tool": "find", "arguments": {"by": "x"}}, weight=0.5),
        RubricItem("says", "fact", {"value": "K-1"}),
        RubricItem("left_alone", "forbid", {"tool": "erase"}),
        RubricItem("nothing_else", "state", {"only": [["order", "K-1"]]}),
    )
)
FIND = Called("find", {"by": "x"}, {"id": "K-1"})
VOID = {"status": "void"}


@pytest.mark.parametrize(
    ("rows", "log", "answer", "total"),
    [
        (after(K_1=VOID), [FIND], "K-1 is done.", 1.0),
        (after(), [], "", 0.0),
        (after(), [], "K-1 is done.", 0.0),  # claiming is no achievement
        (after(), [FIND], "K-1 is done.", 0.2),
        (after(K_1=VOID), [FIND], "Done.", 0.6),
        (after(K_1=VOID), [Called("find", {"by": "x"}, {"error": "not found"})], "K-1", 0.4),
        (after(K_1=VOID), [Called("find", {"by": "y"}, {"id": "K-1"})], "K-1", 0.4),
        (after(K_1=VOID, K_2=VOID), [FIND], "K-1", 0.0),
        (after(K_1=VOID | {"total": 9}), [FIND], "K-1", 0.2),
        (after(K_1=VOID), [FIND, Called("erase", {}, {"error": "no"})], "K-1", 0.0),
    ],
)
def test_all_or_a_fair_part(rows, log, answer, total):
    score = judge(CANCEL, BEFORE, rows, log, answer)
    assert score.total == pytest.approx(total)
    assert score.passed == (total == 1)


def test_a_grounded_fact_counts_once_a_result_has_shown_it():
    rubric = Rubric((RubricItem("says", "fact", {"value": 84, "grounded": True, "without": ["paid", 7]}),))
    shown = [Called("get", {}, {"total": 84, "status": "paid", "points": 7})]
    assert not judge(rubric, {}, {}, [], "It is 84.").passed
    assert judge(rubric, {}, {}, shown, "It is 84.").passed
    assert not judge(rubric, {}, {}, shown, "It is 84, paid, 7 points.").passed


def test_a_created_record():
    item = RubricItem("created", "state", {"entity": "order", "key": "K-3", "has": {"total": 8}})
    new = {"order": after()["order"] | {"K-3": {"id": "K-3", "status": "paid", "total": 8}}}
    only = RubricItem("nothing_else", "state", {"only": [["order", "K-3"]]})
    assert judge(Rubric((item, only)), BEFORE, new, [], "").passed
    assert judge(Rubric((item, only)), BEFORE, BEFORE, [], "").total == 0
    gone = {"order": {"K-3": new["order"]["K-3"], "K-1": BEFORE["order"]["K-1"]}}
    assert not judge(Rubric((item, only)), BEFORE, gone, [], "").passed


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("It is K-481.", "K-481", True),
        ("it is k-481!", "K-481", True),
        ("K-4815", "K-481", False),
        ("AK-481", "K-481", False),
        ("K-481", "481", False),
        ("total: 84", 84, True),
        ('{"total":84}', 84, True),
        ("84.", 84, True),
        ("84.5", 84, False),
        ("184", 84, False),
        ("1,284 in all", 1284, True),
        ("1,284 in all", 284, False),
        ("2027-03-14", "2027-03-14", True),
        ("2027-03-14", 14, False),
        ("at 14:35", 35, False),
        ("mail a@b.org, please", "a@b.org", True),
        ("aa@b.org", "a@b.org", False),
        ("unpaid", "paid", False),
        ("which costs\n41.64 today", 41.64, True),
    ],
)
def test_mentions_whole_values_only(text, value, found):
    assert mentions(text, value) is found


@given(st.text(max_size=20), st.text(alphabet="ab1-", min_size=1, max_size=4))
def test_mentions_takes_any_text(text, value):
    assert mentions(f"{text} {value} {text}", value)


def test_an_item_for_a_judging_model_is_refused_here():
    with pytest.raises(ValueError, match="'kind'"):
        judge(Rubric((RubricItem("kind", "judged", {}),)), {}, {}, [], "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is in progress.", "in_progress"),
        ("The mean is 12.50.", 12.5),
        ("It sums up to 2,577.", 2577),
        ("K\u2011481 it is", "K-481"),
    ],
)
def test_usual_ways_to_write_a_value(text: str, value: str | float) -> None:
    assert mentions(text, value)


def test_a_list_of_all_there_is_is_no_answer() -> None:
    keys = {f"K-{i}" for i in range(20)}
    assert strays("K-1 and K-2, 7 in all", {"K-1"}, keys) == {"K-2", "7"}
    assert len(strays(" ".join(map(str, range(50))), (), keys)) == 50
    assert len(strays(",".join(map(str, range(50))), (), keys)) == 50
