import json

import pytest

from openk2.schema import Message, ToolCall
from openk2.worlds.neighbours.bfcl import CATEGORIES, read_bfcl
from openk2.worlds.neighbours.call_gates import failed_gates
from openk2.worlds.neighbours.calls import judge_turn

TYPES = {
    "base": "integer",
    "unit": "string",
    "rate": "float",
    "at": "tuple",
    "rows": "array",
    "box": "dict",
    "on": "boolean",
}
AREA = {
    "name": "geo.area",
    "description": "An area.",
    "parameters": {
        "type": "dict",
        "properties": {name: {"type": each, "items": {"type": "any"}} for name, each in TYPES.items()},
        "required": ["base"],
    },
}
TRUTH = {
    "base": [10],
    "unit": ["units", ""],
    "rate": [5, ""],
    "at": [[1.5, 2], ""],
    "rows": [[{"n": [1, 2], "m": ["", "x"]}], ""],
    "box": [{"w": [3], "h": [4, ""]}, ""],
    "on": ["", True],
}


def folder(tmp_path, *items, category="simple_python"):
    """Files as the benchmark lays them: each item is (id, function, answer)."""
    (tmp_path / "possible_answer").mkdir()
    questions = [
        {"id": id_, "question": [[{"role": "user", "content": "Area?"}]], "function": [function]}
        for id_, function, _ in items
    ]
    truths = [{"id": id_, "ground_truth": truth} for id_, _, truth in items if truth is not None]
    name = f"BFCL_v4_{category}.json"
    (tmp_path / name).write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "possible_answer" / name).write_text("\n".join(map(json.dumps, truths)))
    return tmp_path


@pytest.fixture
def task(tmp_path):
    (only,) = read_bfcl(folder(tmp_path, ("simple_python_0", AREA, [{"geo.area": TRUTH}])), ["simple_python"]).tasks
    return only


def score(task, **arguments):
    return judge_turn(task.payload, Message("assistant", "", [ToolCall("", "geo_area", json.dumps(arguments))])).total


def test_an_item_is_a_task(task):
    assert (task.id, task.family, task.kind, task.split) == ("bfcl-simple_python_0", "bfcl", "simple_python", "test")
    assert task.payload["messages"] == [{"role": "user", "content": "Area?"}]
    assert task.payload["tools"][0]["function"]["name"] == "geo_area"
    assert failed_gates(task) == []


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"unit": "Units"},
        {"unit": ""},
        {"rate": 5},
        {"rate": 5.0},
        {"at": [1.5, 2]},
        {"rows": [{"n": 2}]},
        {"rows": [{"n": 1, "m": "X"}]},
        {"box": {"w": 3}},
        {"on": True},
    ],
)
def test_what_the_answer_allows_is_right(task, right):
    assert score(task, base=10, **right) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": 10.0},
        {"base": "10"},
        {"unit": "metres"},
        {"rate": ""},
        {"at": [2, 1.5]},
        {"rows": [{"n": 3}]},
        {"rows": [{"m": "x"}]},
        {"rows": []},
        {"box": {"w": 3, "d": 1}},
        {"box": {"h": 4}},
        {"on": False},
        {"on": 1},
        {"height": 5},
    ],
)
def test_what_it_does_not_is_wrong(task, wrong):
    assert score(task, **{"base": 10, **wrong}) == 0


def test_a_required_argument_may_not_be_missing_even_where_the_answer_would_let_it(tmp_path):
    truth = [{"geo.area": {"base": [10, ""]}}]
    (task,) = read_bfcl(folder(tmp_path, ("simple_python_0", AREA, truth)), ["simple_python"]).tasks
    assert score(task, base=10) == 1
    assert score(task) == 0


def test_what_cannot_be_mapped_is_counted_by_reason(tmp_path):
    items = [
        ("a", AREA, [{"geo.area": {"base": [1]}}]),
        ("b", AREA, [{"geo.volume": {"base": [1]}}]),
        ("c", AREA, [{"geo.area": {"base": [1], "depth": [1]}}]),
        ("d", AREA, [{"geo.area": {"unit": ["m"]}}]),
        ("e", AREA, [{"geo.area": {"base": 1}}]),
        ("f", AREA, None),
        ("g", {**AREA, "name": "an area"}, []),
    ]
    mapped = read_bfcl(folder(tmp_path, *items, category="multiple"), ["multiple"])
    assert [task.id for task in mapped.tasks] == ["bfcl-a"]
    assert mapped.counts() == {
        "multiple": {
            "items": 7,
            "mapped": 1,
            "refused": {
                "the answer calls a tool that is not declared": 1,
                "the answer has an argument that is not declared": 1,
                "the answer lacks a required argument": 1,
                "the answer lists no alternatives": 1,
                "has no answer in possible_answer": 1,
                "a tool's name has other than letters, digits, _ and -, or over 64 of them": 1,
            },
        }
    }


def test_irrelevance_has_no_answers_and_wants_no_call(tmp_path):
    made = folder(tmp_path, ("irrelevance_0", AREA, None), category="irrelevance")
    (task,) = read_bfcl(made, ["irrelevance"]).tasks
    assert failed_gates(task) == ["empty"]


def test_a_missing_file_and_a_repeated_id_are_named(tmp_path):
    made = folder(tmp_path, ("a", AREA, []), ("a", AREA, []))
    with pytest.raises(ValueError, match="simple_python: every item needs an id of its own, got 'a'"):
        read_bfcl(made, ["simple_python"])
    with pytest.raises(FileNotFoundError, match="BFCL_v4_parallel"):
        read_bfcl(made, ["parallel"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": "z", "question": [[], []]}\n{', r"simple_python.json:2 is no JSON"),
        ("[]", r"simple_python.json:1: a JSON object stands on every line, got '\[\]'"),
        ('{"id": "z"}', "simple_python, item z: has no 'question'"),
        ("{}", "every item needs an id of its own, got None"),
    ],
)
def test_a_damaged_file_is_named_with_its_line_or_item(tmp_path, text, said):
    made = folder(tmp_path, ("a", AREA, []))
    (made / "BFCL_v4_simple_python.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_bfcl(made, ["simple_python"])


@pytest.mark.shared_data
def test_every_item_of_the_benchmark_is_mapped_and_its_gates_hold(data):
    mapped = read_bfcl(data / "bfcl")
    assert [counts["mapped"] for counts in mapped.counts().values()] == [400, 200, 200, 240]
    assert list(mapped.counts()) == list(CATEGORIES)
    assert {
        task.id: gates for task in mapped.tasks if (gates := failed_gates(task)) and task.kind != "irrelevance"
    } == {}
    assert {tuple(failed_gates(task)) for task in mapped.tasks if task.kind == "irrelevance"} == {("empty",)}
