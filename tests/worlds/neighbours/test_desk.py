import json
from typing import Literal

import pytest

from openk2.schema import CallError, ToolCall
from openk2.worlds.neighbours.desk import Desk, tool
from openk2.worlds.neighbours.records import Records
from openk2.worlds.tools import Refusal


@tool(writes=True)
def paint(records: Records, key: str, colour: Literal["red", "blue"], coats: list[int], note: str | None = None):
    """Paint a thing.

    With care.
    """
    thing = records.get("things", key)
    if thing is None:
        raise Refusal("thing not found")
    records.put("things", key, {**thing, "colour": colour, "coats": coats, "note": note})
    return {"ok": True}


@pytest.fixture
def desk():
    return Desk({"paint": paint}, Records({"things": {"a": {}}}))


def run(desk, arguments, **call):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return json.loads(desk.run(ToolCall("", call.pop("name", "paint"), text, **call)))


def test_a_function_declares_its_tool():
    assert paint.spec.name == "paint"
    assert paint.spec.description == "Paint a thing.\n\nWith care."
    assert paint.spec.parameters == {
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "coats": {"type": "array", "items": {"type": "integer"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["key", "colour", "coats"],
    }


def test_a_call_changes_records_and_is_logged_as_it_was_written(desk):
    arguments = {"key": "a", "colour": "red", "coats": [1]}
    assert run(desk, arguments) == {"ok": True}
    assert desk.records.get("things", "a") == {"colour": "red", "coats": [1], "note": None}
    assert [(called.name, called.arguments, called.failed) for called in desk.log] == [("paint", arguments, False)]


@pytest.mark.parametrize(
    ("arguments", "call", "error"),
    [
        ({"key": "b", "colour": "red", "coats": []}, {}, "thing not found"),
        ({"key": "a", "colour": "green", "coats": []}, {}, "colour: Input should be 'red' or 'blue'"),
        ({"key": "a", "colour": "red", "coats": ["1"]}, {}, "coats.0: Input should be a valid integer"),
        ({"key": 1, "colour": "red", "coats": []}, {}, "key: Input should be a valid string"),
        ({"key": "a", "colour": "red"}, {}, "coats: Field required"),
        ({"key": "a", "colour": "red", "coats": [], "x": 1}, {}, "x: Extra inputs are not permitted"),
        ("[]", {}, "arguments: Input should be an object"),
        ("{", {}, "arguments: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("{}", {"name": "burn"}, "no such tool"),
        ("{", {"error": CallError.BAD_JSON}, "malformed call: bad_json"),
    ],
)
def test_a_wrong_call_gets_one_line_and_changes_nothing(desk, arguments, call, error):
    before = desk.records.hash()
    assert run(desk, arguments, **call) == {"error": error}
    assert desk.records.hash() == before
    assert desk.log[-1].failed
