"""An app by hand that has every operation, and apps at random, for the tests of the language."""

from hypothesis import strategies as st

from openk2.worlds.spec import RANGED, App, Condition, Entity, Field, Param, Tool

KEY = Param("id", "key")
OWNER = Entity(
    "owner",
    (Field("owner", "code"), Field("name", "name"), Field("standing", "enum", ("good", "barred")), Field("credit", "amount", default=5)),
)  # fmt: skip
PET = Entity(
    "pet",
    (
        Field("pet", "code"), Field("owner", "ref", ref="owner"), Field("mother", "ref", ref="pet", optional=True),
        Field("chip", "code", unique=True), Field("kind", "enum", ("cat", "dog", "emu"), default="dog"),
        Field("born", "date"), Field("weight", "amount"),
    ),
)  # fmt: skip
GOOD = Condition("standing", "in", ("good",), via="owner")
KENNEL = App(
    "kennel",
    (OWNER, PET),
    (
        Tool("add_pet", "register a pet", "create", "pet", (
            Param("owner", "owner"), Param("chip", "chip"), Param("kind", "kind", True), Param("mother", "mother", True),
            Param("born", "born", True),
        ), requires=(GOOD,), verb="register"),
        Tool("list_pets", "search pets", "search", "pet", (
            Param("kind", "kind", True), Param("owner", "owner", True), Param("born_after", "born>=", True),
            Param("heaviest", "weight<=", True), Param("limit", "limit", True),
        ), returns=("kind", "weight"), order="-weight", limit=2),
        Tool("weigh_all", "sum of weights", "aggregate", "pet", (Param("kind", "kind", True),), field="weight", measure="sum"),
        Tool("mean_weight", "mean weight", "aggregate", "pet", (Param("kind", "kind"),), field="weight", measure="mean"),
        Tool("count_pets", "count pets", "aggregate", "pet", (Param("from_weight", "weight>="),), measure="count"),
        Tool("update_pet", "update a pet", "update", "pet", (
            KEY, Param("chip", "chip", True), Param("mother", "mother", True), Param("born", "born", True),
        ), requires=(Condition("weight", "no_less", bound=1),)),
        Tool("remove_pet", "remove a pet", "remove", "pet", (KEY,), requires=(Condition("weight", "no_more", bound=9),)),
        Tool("groom", "groom a pet", "add", "pet", (KEY, Param("grams", "amount")), field="weight", verb="groom",
             requires=(Condition("born", "filled"),)),
        Tool("remove_owner", "remove an owner", "remove", "owner", (KEY,)),
    ),
    strict=True,
)  # fmt: skip


def pet(key, owner="O-1", mother="", kind="cat", born="2030-01-01", weight=5):
    return {
        "pet": key, "owner": owner, "mother": mother, "chip": f"chip {key}", "kind": kind, "born": born, "weight": weight,
    }  # fmt: skip


ROWS = {
    "owner": [
        {"owner": "O-1", "name": "Ada", "standing": "good", "credit": 5},
        {"owner": "O-2", "name": "Bo", "standing": "barred", "credit": 0},
        {"owner": "O-3", "name": "Cy", "standing": "good", "credit": 0},
    ],
    "pet": [
        pet("P-1", weight=30), pet("P-2", "O-2", mother="P-1", kind="dog", born="2031-06-01"),
        pet("P-3", born="", weight=0), pet("P-4", kind="emu", weight=5, born="2029-12-31"),
    ],
}  # fmt: skip
FRESH = {"pet": ["P-9"], "owner": ["O-9"]}

names = st.sampled_from(("a", "bee", "c_sea", "dee", "ee", "eff", "gee", "aitch", "eye", "jay", "kay", "ell"))


@st.composite
def apps(draw):
    """A strict app of up to three entities with every operation that they allow."""
    nouns = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    entities = tuple(_entity(draw, noun, nouns[:i], nouns) for i, noun in enumerate(nouns))
    tools = [tool for entity in entities for tool in _tools(draw, entity, entities)]
    return App("random", entities, tuple(tools), strict=True)


def _entity(draw, noun, earlier, nouns):
    fields = [Field("code", "code"), Field("number", "amount"), Field("state", "enum", ("on", "off", "out"))]
    kinds = st.sampled_from(("name", "word", "email", "date", "time", "amount", "enum", "ref", "loose"))
    for name in draw(st.lists(names, max_size=4, unique=True)):
        kind = draw(kinds)
        if kind == "ref" and earlier:
            fields.append(Field(name, "ref", ref=draw(st.sampled_from(earlier))))
        elif kind in ("ref", "loose"):
            fields.append(Field(name, "ref", ref=draw(st.sampled_from(nouns)), optional=True))
        elif kind == "enum":
            fields.append(Field(name, "enum", ("x", "y"), default=draw(st.sampled_from(("", "y")))))
        elif kind == "amount":
            fields.append(Field(name, "amount", default=draw(st.sampled_from(("", 0, 7)))))
        else:
            fields.append(Field(name, kind, unique=draw(st.booleans())))
    return Entity(noun, tuple(fields))


def _tools(draw, entity, entities):
    noun, fields = entity.name, entity.fields[1:]
    requires = draw(st.lists(st.sampled_from(_conditions(entity, entities)), max_size=2, unique=True))
    needed = {field.name for field in fields if field.unique or (field.ref and not field.optional)}
    some = draw(st.lists(st.sampled_from(fields), min_size=2, max_size=4, unique_by=lambda field: field.name))
    made = [Param(f.name, f.name, f.name not in needed) for f in fields]
    filters = [Param(f.name, f.name, draw(st.booleans())) for f in some]
    filters += [Param(f"most_{f.name}", f"{f.name}<=", draw(st.booleans())) for f in some if f.type in RANGED]
    measure = draw(st.sampled_from(("count", "sum", "mean", "min", "max")))
    key, moved = (Param("key", "key"),), Param("amount", "amount")
    covers = (Condition("number", "at_least"),)
    on_create = tuple(c for c in requires if c.via in needed)
    yield Tool(f"get_{noun}", "get", "get", noun, key, returns=tuple(f.name for f in some))
    yield Tool(f"search_{noun}", "search", "search", noun, tuple(filters), order=some[0].name, limit=3)
    yield Tool(
        f"measure_{noun}", "measure", "aggregate", noun, tuple(filters), field="" if measure == "count" else "number", measure=measure
    )  # fmt: skip
    yield Tool(f"create_{noun}", "create", "create", noun, tuple(made), requires=on_create)
    yield Tool(f"set_{noun}", "set", "set", noun, (*key, Param("x", some[0].name)), field=some[0].name)
    changed = (*key, *(Param(f"new_{f.name}", f.name, True) for f in some))
    yield Tool(f"update_{noun}", "update", "update", noun, changed, requires=tuple(requires))
    yield Tool(f"move_{noun}", "move", "transition", noun, key, field="state", target="out", requires=tuple(requires))
    yield Tool(f"add_{noun}", "add", "add", noun, (*key, moved), field="number")
    yield Tool(f"take_{noun}", "take", "take", noun, (*key, moved), field="number", requires=covers)
    ends = (Param("from", "source"), Param("to", "target"), moved)
    yield Tool(f"transfer_{noun}", "transfer", "transfer", noun, ends, field="number", requires=covers)
    yield Tool(f"remove_{noun}", "remove", "remove", noun, key, requires=tuple(requires))


def _conditions(entity, entities):
    found = [
        Condition("state", "in", ("on", "off")), Condition("number", "no_less", bound=2), Condition("number", "no_more", bound=50),
    ]  # fmt: skip
    by_name = {other.name: other for other in entities}
    for field in entity.fields[1:]:
        if not field.is_number and not field.values:
            found.append(Condition(field.name, "filled", policy="say it"))
        if field.ref in by_name:
            found.append(Condition("state", "in", ("on",), via=field.name))
    return found
