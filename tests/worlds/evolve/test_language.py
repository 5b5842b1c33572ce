import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.worlds.policies import policies, with_article
from openk2.worlds.spec import App, Condition, Entity, Field, Param, check, restrict
from openk2.worlds.state import State
from openk2.worlds.tools import PATTERNS, compile_tools, execute
from tests.worlds.evolve.apps import FRESH, KENNEL, OWNER, PET, ROWS, apps, pet


def kennel():
    return State(KENNEL, ROWS, FRESH)


@pytest.mark.parametrize(
    ("tool", "arguments", "result"),
    [
        ("list_pets", {}, {"count": 4, "records": [
            {"pet": "P-1", "kind": "cat", "weight": 30}, {"pet": "P-2", "kind": "dog", "weight": 5}]}),
        ("list_pets", {"kind": "emu"}, {"count": 1, "records": [{"pet": "P-4", "kind": "emu", "weight": 5}]}),
        ("list_pets", {"owner": "O-1", "heaviest": 5, "limit": 1},
         {"count": 2, "records": [{"pet": "P-4", "kind": "emu", "weight": 5}]}),
        ("list_pets", {"born_after": "2031-01-01"}, {"count": 1, "records": [{"pet": "P-2", "kind": "dog", "weight": 5}]}),
        ("list_pets", {"owner": "O-7"}, {"count": 0, "records": []}),
        ("list_pets", {"limit": 3}, {"error": "limit must be 1 to 2"}),
        ("list_pets", {"born_after": "soon"}, {"error": "born_after must be a date like 2027-03-14"}),
        ("list_pets", {"born_after": "2031-01-01\n"}, {"error": "born_after must be a date like 2027-03-14"}),
        ("weigh_all", {}, {"count": 4, "sum": 40}),
        ("weigh_all", {"kind": "cat"}, {"count": 2, "sum": 30}),
        ("mean_weight", {"kind": "cat"}, {"count": 2, "mean": 15.0}),
        ("mean_weight", {}, {"error": "missing kind"}),
        ("count_pets", {"from_weight": 5}, {"count": 3}),
        ("add_pet", {"owner": "O-7", "chip": "x"}, {"error": "owner not found"}),
        ("add_pet", {"owner": "O-1", "chip": "x", "mother": "P-7"}, {"error": "mother not found"}),
        ("add_pet", {"owner": "O-2", "chip": "x"}, {"error": "owner standing is barred"}),
        ("add_pet", {"owner": "O-1", "chip": "chip P-2"}, {"error": "chip is taken"}),
        ("update_pet", {"id": "P-1"}, {"error": "nothing to change"}),
        ("update_pet", {"id": "P-3", "chip": "new"}, {"error": "weight is 0"}),
        ("update_pet", {"id": "P-1", "chip": "new", "mother": "P-7"}, {"error": "mother not found"}),
        ("groom", {"id": "P-3", "grams": 4}, {"error": "born is missing"}),
        ("remove_pet", {"id": "P-1"}, {"error": "weight is 30"}),
        ("remove_owner", {"id": "O-1"}, {"error": "pet refers to it"}),
    ],
)  # fmt: skip
def test_reads_and_refusals_leave_the_state(tool, arguments, result):
    world = kennel()
    before = world.hash()
    assert execute(KENNEL, world, tool, arguments) == result
    assert world.hash() == before


def test_mean_of_nothing_is_refused_and_its_sum_is_0():
    world = State(KENNEL, {"owner": [], "pet": []}, {})
    assert execute(KENNEL, world, "mean_weight", {"kind": "cat"}) == {"error": "no pet found"}
    assert execute(KENNEL, world, "weigh_all", {}) == {"count": 0, "sum": 0}


def test_writes():
    world = kennel()
    assert execute(KENNEL, world, "add_pet", {"owner": "O-1", "chip": "new"}) == {"pet": "P-9"}
    assert world.get(PET, "P-9") == pet("P-9", kind="dog", born="", weight=0) | {"chip": "new"}
    assert execute(KENNEL, world, "update_pet", {"id": "P-2", "mother": "", "born": "2030-02-02"}) == {"ok": True}
    assert world.get(PET, "P-2") == pet("P-2", "O-2", kind="dog", born="2030-02-02")
    assert execute(KENNEL, world, "remove_pet", {"id": "P-2"}) == {"ok": True}
    assert world.get(PET, "P-2") is None
    assert execute(KENNEL, world, "remove_owner", {"id": "O-2"}) == {"ok": True}


def test_a_parameter_that_may_be_left_out_is_not_required():
    spec = {tool.name: tool.parameters for tool in compile_tools(KENNEL)}["add_pet"]
    assert list(spec["properties"]) == ["owner", "chip", "kind", "mother", "born"]
    assert spec["required"] == ["owner", "chip"]
    add = KENNEL.find_tool("add_pet")
    assert add.arguments(owner="O-1", chip="x", kind="cat") == {"owner": "O-1", "chip": "x", "kind": "cat"}


def test_policies_are_sentences():
    said = {tool.name: policies(KENNEL, tool) for tool in KENNEL.tools}
    assert said["add_pet"] == ["Register a pet only if the owner's standing is good."]
    assert said["groom"] == ["Groom the weight of a pet only if its born is filled in."]
    assert said["remove_pet"] == ["Remove a pet only if its weight is at most 9."]
    own = replace(KENNEL.find_tool("groom"), requires=(Condition("born", "filled", policy="Know its age first."),))
    assert policies(KENNEL, own) == ["Know its age first."]
    assert [with_article(noun) for noun in ("order", "user", "unit", "hour rate", "update")] == [
        "an order", "a user", "a unit", "an hour rate", "an update",
    ]  # fmt: skip


def with_field(entity, field):
    """KENNEL with one more field."""
    entities = [replace(e, fields=(*e.fields, field)) if e.name == entity else e for e in KENNEL.entities]
    return replace(KENNEL, entities=tuple(entities))


def with_tool(name, **change):
    """KENNEL with one tool changed."""
    return replace(KENNEL, tools=tuple(replace(t, **change) if t.name == name else t for t in KENNEL.tools))


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (with_field("owner", Field("pet", "ref", ref="pet")), "app kennel: owner, pet need each other"),
        (with_field("owner", Field("boss", "ref", ref="owner")), "app kennel: owner, pet need each other"),
        (with_field("owner", Field("vet", "ref", ref="vet")), r"kennel.owner.vet: no entity vet"),
        (with_field("owner", Field("age", "amount", optional=True)), r"owner.age: only a ref"),
        (with_field("owner", Field("age", "amount", default="old")), "default 'old' is no integer"),
        (with_field("owner", Field("mood", "enum", ("up",), default="down")), "default 'down' is no value"),
        (with_field("owner", Field("day", "date", default="2030-01-01")), "has a default"),
        (with_field("owner", Field("mood", "enum", ("up", "up"))), "listed twice"),
        (with_field("pet", Field("tag", "code", unique=True)), "add_pet: no pet can be without tag"),
        (replace(KENNEL, entities=(OWNER, replace(OWNER, name="Owner"))), "'Owner' appears twice"),
        (with_tool("list_pets", limit=0), "its limit is 0"),
        (with_tool("list_pets", order="-colour"), "no field colour"),
        (with_tool("list_pets", params=(Param("k", "kind>="),)), "a range needs one of amount, date, time, kind is enum"),
        (with_tool("list_pets", params=(Param("p", "pet"),)), "other than its key, got pet"),
        (with_tool("list_pets", params=(Param("a", "kind"), Param("b", "kind"))), "distinct filters"),
        (with_tool("weigh_all", measure="median"), "measure 'median' is none"),
        (with_tool("weigh_all", field="kind"), "sum needs a number"),
        (with_tool("count_pets", field="weight"), "count needs no field"),
        (with_tool("update_pet", params=(Param("id", "key", True), Param("a", "born"), Param("b", "chip"))), "takes the key"),
        (with_tool("update_pet", params=(Param("id", "key"), Param("a", "born"))), "at least two"),
        (with_tool("remove_pet", params=(Param("id", "key", True),)), "needs all its parameters"),
        (with_tool("add_pet", params=(Param("chip", "chip"),)), "via owner needs it as a parameter"),
        (with_tool("add_pet", requires=(Condition("weight", "no_less"),)), "no record to test weight of"),
        (with_tool("list_pets", requires=(Condition("weight", "no_less"),)), "no record to test weight of"),
        (with_tool("groom", requires=(Condition("x", "in", ("y",), via="kind"),)), "kind is none"),
        (with_tool("groom", requires=(Condition("kind", "in", ("cow",)),)), "lists some of its values"),
        (with_tool("groom", requires=(Condition("kind", "no_less"),)), "needs a number, kind is enum"),
        (with_tool("groom", requires=(Condition("weight", "filled"),)), "always filled"),
        (with_tool("remove_pet", requires=(Condition("weight", "at_least"),)), "where an amount moves"),
        (with_tool("groom", requires=(Condition("weight", "equals"),)), "unknown test 'equals'"),
    ],
)  # fmt: skip
def test_a_bad_spec_is_refused_with_the_reason(app, reason):
    with pytest.raises(ValueError, match=reason):
        check(app)


def test_restrict_keeps_what_refs_lead_to():
    app = restrict(KENNEL, [KENNEL.find_tool("list_pets")])
    check(app)
    assert [entity.name for entity in app.entities] == ["owner", "pet"]
    assert app.strict


@settings(max_examples=30)
@given(apps())
def test_a_random_spec_is_good_and_survives_json(app):
    check(app)
    assert App.from_json(json.loads(json.dumps(app.to_json()))) == app


def argument(draw, schema, codes):
    """Mostly what the schema wants, at times anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.none() | st.integers() | st.text(max_size=4))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if schema["type"] == "integer":
        return draw(st.integers(-5, 60))
    shapes = {PATTERNS["date"][0]: "2030-01-0{}", PATTERNS["time"][0]: "10:0{}", PATTERNS["email"][0]: "a@b{}.org"}
    if "pattern" in schema:
        return shapes[schema["pattern"]].format(draw(st.integers(0, 9)))
    return draw(st.sampled_from(codes))


@settings(max_examples=25)
@given(apps(), st.data())
def test_no_sequence_of_calls_breaks_types_or_refs(app, data):
    fresh = {entity.name: [f"{entity.name}-{i}" for i in range(4)] for entity in app.entities}
    codes = [*(key for keys in fresh.values() for key in keys[:2]), "", "none"]
    world = State(app, {}, fresh)
    creates = [tool for tool in app.tools if tool.op == "create"]
    for step in range(18):
        tool = data.draw(st.sampled_from(creates if step < 6 else app.tools))
        spec = next(spec for spec in compile_tools(app) if spec.name == tool.name).parameters
        named = [n for n in spec["properties"] if n in spec["required"] or data.draw(st.booleans())]
        arguments = {name: argument(data.draw, spec["properties"][name], codes) for name in named}
        before = world.hash()
        result = execute(app, world, tool.name, arguments)
        if "error" in result or tool.op in ("get", "search", "aggregate"):
            assert world.hash() == before
        json.dumps(result)
    assert_sound(app, world)


def assert_sound(app, world):
    rows = world.rows()
    for entity in app.entities:
        for row in rows[entity.name].values():
            for field in entity.fields:
                assert_sound_value(rows, entity, field, row[field.name])
        for field in entity.fields:
            if field.unique:
                values = [row[field.name] for row in rows[entity.name].values()]
                assert len(set(values)) == len(values)


def assert_sound_value(rows, entity: Entity, field: Field, value):
    assert type(value) is (int if field.is_number else str)
    if field.values:
        assert value in field.values
    if field.ref and not (field.optional and value == ""):
        assert value in rows[field.ref], f"{entity.name}.{field.name}"
    if field.type in PATTERNS and value != "":
        assert re.fullmatch(PATTERNS[field.type][0], value)
