import re
from collections import Counter
from itertools import islice

import pytest

from openk2.worlds.evolve.author import AppId, ScriptedAuthor, app_ids, evolve
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.evolve.lexicon import categories, find_category
from openk2.worlds.evolve.wording import plural
from openk2.worlds.spec import App
from openk2.worlds.tools import compile_tools

SMALL = EvolveConfig(num_applications=1)


@pytest.mark.parametrize("name", categories())
def test_a_category_has_the_words_it_needs_and_no_name_twice(name):
    category = categories()[name]
    kinds = category.kinds.values()
    facts = [field for kind in kinds for field in (*kind.facts, *(count.field for count in kind.counts))]
    verbs = {move.verb for kind in kinds for move in kind.moves}
    statuses = {status for kind in kinds for status in (*kind.starts, *(move.target for move in kind.moves))}
    assert len(category.applications) >= 10
    assert len({noun for kind in kinds for noun in kind.nouns}) >= 20
    assert len(facts) >= 25
    assert len(verbs) >= 15
    assert len(statuses) >= 15
    nouns = {noun for kind in kinds for noun in kind.nouns}
    for kind in kinds:
        names = [f.name for f in (*kind.facts, *kind.general, *(count.field for count in kind.counts))]
        assert [name for name, count in Counter(names).items() if count > 1] == []
        assert not nouns & set(names)


def test_no_application_belongs_to_two_categories():
    names = [name for category in categories().values() for name in category.applications]
    assert len(names) == len(set(names)) >= 200


def test_an_app_depends_on_seed_category_and_application_alone():
    app_id = AppId("law", "Casefile")
    app = ScriptedAuthor(EvolveConfig()).author(app_id)
    assert ScriptedAuthor(EvolveConfig(categories=("law",), num_applications=3)).author(app_id) == app
    assert ScriptedAuthor(EvolveConfig(seed=1)).author(app_id) != app
    assert ScriptedAuthor(EvolveConfig()).author(AppId("law", "Docketly")) != app
    assert App.from_json(app.to_json()) == app


def test_apps_come_one_by_one_in_the_order_of_their_identities():
    assert [app.name for app in islice(evolve(EvolveConfig()), 12)] == [
        i.application for i in islice(app_ids(EvolveConfig()), 12)
    ]
    with pytest.raises(ValueError, match="no category called 'magic'; there are finance"):
        find_category("magic")
    with pytest.raises(ValueError, match="no category 'magic'; there are finance"):
        EvolveConfig(categories=("magic",))


def test_another_author_can_take_its_place():
    class Copying:
        def author(self, app_id):
            return App(app_id.application, (), ())

    assert next(evolve(EvolveConfig(categories=("food",)), Copying())) == App("Tablekeeper", (), ())


def test_names_and_descriptions_read_as_written():
    for app in evolve(SMALL):
        for spec in compile_tools(app):
            assert re.fullmatch(r"[a-zA-Z][a-z0-9A-Z_]*[a-z0-9]", spec.name), spec.name
            assert re.fullmatch(r"[A-Z].*[.]", spec.description), spec.description
            assert not re.search(r"[_{}]|\s\s|\.\.| ,| a [aeio]", spec.description), spec.description
            assert 3 <= len(spec.description.split()) <= 70


def test_every_operation_and_every_way_of_naming_occurs():
    tools = [tool for app in evolve(SMALL) for tool in app.tools]
    assert len({tool.op for tool in tools}) == 12
    assert {condition.test for tool in tools for condition in tool.requires} == {
        "in", "filled", "at_least", "no_less", "no_more",
    }  # fmt: skip
    assert any(condition.via for tool in tools for condition in tool.requires)
    assert {("_" in tool.name) for tool in tools} == {True, False}


@pytest.mark.parametrize(
    ("noun", "many"),
    [("order", "orders"), ("company", "companies"), ("tax", "taxes"), ("day", "days"), ("batch", "batches"),
     ("bill of lading", "bills of lading")],
)  # fmt: skip
def test_plurals(noun, many):
    assert plural(noun) == many
