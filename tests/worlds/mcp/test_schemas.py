import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from openk2.worlds.mcp.schemas import MAX_BYTES, BadSchemaError, plain


def only(parameter, **beside):
    """What becomes of one parameter's schema."""
    schema, _ = plain({"type": "object", "properties": {"p": parameter}, **beside})
    return schema["properties"]["p"]


@pytest.mark.parametrize(
    ("parameter", "becomes"),
    [
        ({"type": ["string", "null"]}, {"type": "string"}),
        ({"type": ["string", "integer"]}, {"type": ["string", "integer"]}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, {"type": "integer"}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"type": "string", "enum": ["a"]}),
        ({"type": "null"}, {"type": "null"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "whatever", "minLength": 1}, {"type": "string", "minLength": 1}),
        ({"enum": ["a", "b", "a"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"enum": []}, {}),
        ({"items": {"type": "bool"}}, {"type": "array", "items": {"type": "boolean"}}),
        ({"type": "array", "items": [{"type": "str"}]}, {"type": "array", "prefixItems": [{"type": "string"}]}),
        ({"properties": {"q": {"type": "string"}}}, {"type": "object", "properties": {"q": {"type": "string"}}}),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 1}),
        ({"type": "number", "exclusiveMaximum": 2.5}, {"type": "number", "exclusiveMaximum": 2.5}),
        ({"type": "string", "pattern": "(?<name>a)"}, {"type": "string"}),  # JavaScript's
        ({"type": "string", "minLength": -1, "maxLength": 3.0}, {"type": "string", "maxLength": 3}),
        ({"type": "string", "x-order": 1, "nullable": True}, {"type": "string"}),
        ({"type": "string", "description": "a\u200b\u202eb\x00"}, {"type": "string", "description": "ab"}),
        ({"type": "object", "additionalProperties": {"type": "int"}}, {"type": "object", "additionalProperties": {"type": "integer"}}),
        ({"type": "object", "additionalProperties": "no"}, {"type": "object", "additionalProperties": {}}),
        ("string", {"type": "string"}),
        (True, {}),
        ({"$ref": "#/$defs/D"}, {"type": "string"}),
        ({"allOf": [{"$ref": "#/$defs/D"}]}, {"allOf": [{"type": "string"}]}),
        ({"$ref": "#/$defs/D", "description": "x"}, {"type": "string", "description": "x"}),
    ],
)  # fmt: skip
def test_what_can_be_read_in_one_way_is_mended(parameter, becomes):
    assert only(parameter, **{"$defs": {"D": {"type": "string"}}}) == becomes


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"q": {"type": "string"}}, {"type": "object", "properties": {"q": {"type": "string"}}}),
        (
            {"type": "object", "properties": {"a": {"type": "string", "required": True}}, "required": ["b"]},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        ),
        ({"$ref": "#/definitions/P", "definitions": {"P": {"type": "object"}}}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": {"$ref": {"type": "string"}}}, None),
    ],
)
def test_so_is_the_object_around_the_parameters(schema, becomes):
    assert plain(schema)[0] == (becomes or schema)


def test_a_loop_of_references_ends_in_an_open_object():
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/T"}}}
    schema, mended = plain({"type": "object", "properties": {"root": {"$ref": "#/$defs/T"}}, "$defs": {"T": tree}})
    inner = schema["properties"]["root"]["properties"]["child"]["properties"]["child"]
    assert inner == {"type": "object"}
    assert mended["reference loop cut"] == 1


def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"p": schema}}
    return schema


def doubling(levels):
    """Two references each to the level below: 2^levels nodes when written out."""
    defs = {
        f"L{n}": {"type": "object", "properties": {x: {"$ref": f"#/$defs/L{n + 1}"} for x in "ab"}}
        for n in range(levels)
    }
    return {"$ref": "#/$defs/L0", "$defs": {**defs, f"L{levels}": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ([], "not a schema"),
        ({"type": "string"}, "not an object's schema"),
        ({"type": "object", "properties": {"p": {"$ref": "http://x/y.json"}}}, "a reference outside"),
        ({"type": "object", "properties": {"p": {"$ref": "#/$defs/none"}}}, "a reference to nothing"),
        ({"$ref": "#"}, None),
        (nested(40), "too deep"),
        (doubling(12), "too"),
        ({"type": "object", "properties": {f"p{n}": {} for n in range(3000)}}, "too large"),
        ({"type": "object", "properties": {"p": {"enum": ["x" * MAX_BYTES]}}}, "too large"),
        ({"type": "object", "properties": {"a\u200bb": {}}}, "a name that cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_mended_is_refused_by_reason(schema, reason):
    if reason is None:
        assert plain(schema)[0]["type"] == "object"
        return
    with pytest.raises(BadSchemaError, match=reason):
        plain(schema)


KEYWORDS = st.sampled_from(
    ["type", "properties", "items", "required", "enum", "anyOf", "allOf", "not", "$ref", "additionalProperties", "minimum",
     "exclusiveMinimum", "pattern", "format", "default", "description", "minLength", "multipleOf", "prefixItems", "const"]
)  # fmt: skip
WORDS = st.sampled_from(["object", "string", "null", "int", "#/properties/a", "#", "[", "a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(KEYWORDS, VALUES, max_size=5) | VALUES)
def test_whatever_comes_is_refused_or_compiles(schema):
    before = json.dumps(schema)
    try:
        out, _ = plain(schema)
    except BadSchemaError:
        return
    finally:
        assert json.dumps(schema) == before
    Draft202012Validator.check_schema(out)
    assert out["type"] == "object"
    assert plain(out)[0] == out  # plain already
