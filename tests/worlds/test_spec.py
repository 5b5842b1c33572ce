import json
from dataclasses import replace

import pytest

from openk2.worlds.domains import APPS, find_app
from openk2.worlds.spec import App, Condition, Field, Param, check

SHOP = APPS["shop"]


@pytest.mark.parametrize("name", APPS)
def test_json_round_trip(name):
    app = APPS[name]
    assert App.from_json(json.loads(json.dumps(app.to_json()))) == app


@pytest.mark.parametrize("name", APPS)
def test_every_app_has_tools_that_read_write_and_refuse(name):
    tools = APPS[name].tools
    assert len(tools) >= 5
    assert {tool.op for tool in tools} >= {"get", "find", "create", "set", "transition", "add"}
    assert any(tool.requires for tool in tools)


def broken(change):
    """SHOP with its first tool, or its first entity's second field, changed."""
    if isinstance(change, Field):
        first, *rest = SHOP.entities
        return replace(SHOP, entities=(replace(first, fields=(first.fields[0], change, *first.fields[2:])), *rest))
    return replace(SHOP, tools=(replace(SHOP.tools[0], **change), *SHOP.tools[1:]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "get_customer"}, "appears twice"),
        ({"name": "drop table"}, "no identifier"),
        ({"entity": "nobody"}, "no entity nobody"),
        ({"op": "explode"}, "explode"),
        ({"params": (Param("x", "amount"),)}, "takes the roles"),
        ({"returns": ()}, "at least one field"),
        ({"returns": ("colour",)}, "no field colour"),
        ({"requires": (Condition("colour", "in", ("red",)),)}, "no field colour"),
        (Field("email", "email"), "appears twice"),
        (Field("level", "enum"), "lists its values"),
        (Field("level", "ref"), "names its entity"),
        (Field("amount", "amount"), "cannot be called"),
    ],
)
def test_a_bad_spec_is_refused_with_the_reason(change, reason):
    with pytest.raises(ValueError, match=reason):
        check(broken(change))


def test_a_file_that_is_no_spec_is_refused():
    with pytest.raises(ValueError, match="app 'x'"):
        App.from_json({"name": "x", "entities": [{"name": "a"}], "tools": []})
    with pytest.raises(ValueError, match="there are shop"):
        find_app("shopp")
