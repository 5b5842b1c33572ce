import pytest
from jsonschema import Draft202012Validator

from openk2.worlds.neighbours.declared import json_schema, tool_name, tools
from openk2.worlds.neighbours.mapped import Unmappable


def test_pythons_types_become_json_schemas():
    declared = {
        "type": "dict",
        "properties": {
            "type": {"type": "any", "description": "a parameter may be called type"},
            "at": {"type": "tuple", "items": {"type": "float"}},
            "rows": {"type": "array", "items": {"type": "dict", "properties": {"n": {"type": "int"}}}},
        },
        "required": ["at"],
    }
    schema = json_schema(declared)
    assert schema == {
        "type": "object",
        "properties": {
            "type": {"description": "a parameter may be called type"},
            "at": {"type": "array", "items": {"type": "number"}},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        },
        "required": ["at"],
    }
    Draft202012Validator.check_schema(schema)
    assert declared["properties"]["type"]["type"] == "any"


def test_either_word_for_the_parameters_is_read_and_dots_leave_the_name():
    (tool,) = tools([{"name": "math.hypot", "arguments": {"type": "object"}}])
    assert (tool.name, tool.description, tool.parameters) == ("math_hypot", "", {"type": "object", "properties": {}})


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ([{"name": "f"}], "declares no parameters"),
        ([{"name": "f", "parameters": {"type": "array"}}], "no object"),
        ([{"name": "f", "parameters": {"type": "dict", "properties": {"a": {"type": "matrix"}}}}], "type 'matrix'"),
        ([{"name": "f", "parameters": {"type": "dict", "properties": {"a": "text"}}}], "schema is no object"),
        ([{"name": "a.b", "parameters": {}}, {"name": "a_b", "parameters": {}}], "share a name"),
        ([{"name": "a b", "parameters": {}}], "letters, digits"),
    ],
)
def test_what_no_server_would_take_is_refused_with_its_reason(functions, reason):
    with pytest.raises(Unmappable, match=reason):
        tools(functions)


def test_a_long_name_is_refused():
    assert tool_name("n" * 64) == "n" * 64
    with pytest.raises(Unmappable):
        tool_name("n" * 65)
