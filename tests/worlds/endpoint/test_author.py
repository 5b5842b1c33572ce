import json

import jsonschema
import pytest

from openk2.jobs import jsonl
from openk2.schema import Sampling
from openk2.worlds.domains import APPS, find_app
from openk2.worlds.endpoint.author import EXAMPLE, INSTRUCTIONS, SCHEMA, author_app, author_apps, read_app
from openk2.worlds.endpoint.quote import RULE
from openk2.worlds.evolve.author import AppId, ScriptedAuthor, evolve
from openk2.worlds.evolve.config import EvolveConfig
from tests.worlds.endpoint.asking import asking, prompt

CONFIG = EvolveConfig(num_entities=5)
PAYWISE, VAULTLY = AppId("finance", "Paywise"), AppId("finance", "Vaultly")
APP = ScriptedAuthor(CONFIG).author(PAYWISE)
GOOD = APP.to_json()


def changed(change):
    app = json.loads(json.dumps(GOOD))
    change(app)
    return app


@pytest.mark.parametrize("name", APPS)
def test_the_schema_takes_every_app_there_is(name):
    jsonschema.validate(find_app(name).to_json(), SCHEMA)


def test_the_schema_takes_evolved_apps():
    for app in evolve(EvolveConfig(num_applications=1)):
        jsonschema.validate(app.to_json(), SCHEMA)


def test_the_example_in_the_instructions_is_an_app():
    jsonschema.validate(EXAMPLE, SCHEMA)
    app = read_app("Moorings", EXAMPLE)
    assert json.dumps(EXAMPLE) in INSTRUCTIONS
    assert {tool.op for tool in app.tools} >= {"get", "find", "search", "aggregate", "update", "transition", "take"}


def test_an_idea_becomes_an_app_and_errors_go_back():
    broken = changed(lambda app: app["tools"][0].update(entity="ghost"))
    answers = ["I would rather not", json.dumps({"name": "Paywise"}), json.dumps(broken), json.dumps(GOOD)]
    left = list(answers)
    made, bodies = asking(lambda _: left.pop(0), lambda endpoint: author_app(endpoint, PAYWISE, Sampling()))
    assert made.value == APP
    assert "no entity ghost" in made.attempts[2].error
    assert made.attempts[2].error in bodies[3]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("app", "error"),
    [
        (changed(lambda app: app.update(name="Other")), "is called 'Other', it should be 'Paywise'"),
        (changed(lambda app: app["entities"][0].update(name="sqlite_x")), "no entity"),
        (
            {
                "name": "Paywise",
                "entities": [{"name": "sqlite_x", "fields": [{"name": "id", "type": "code"}, {"name": "n", "type": "amount"}]}],
                "tools": [{"name": "get_x", "description": "", "op": "get", "entity": "sqlite_x",
                           "params": [["id", "key"]], "returns": ["n"]}],
            },
            "cannot be played: object name reserved",
        ),
        (
            {
                "name": "Paywise",
                "entities": [{"name": "x", "fields": [{"name": "id", "type": "code"}, {"name": "n", "type": "amount"}]}],
                "tools": [{"name": "list_x", "description": "", "op": "search", "entity": "x",
                           "params": [["limit", "limit", True]], "returns": ["n"], "limit": 5}],
            },
            "takes distinct filters",
        ),
        (
            {
                "name": "Paywise",
                "entities": [{"name": "x", "fields": [{"name": "id", "type": "code"}, {"name": "n", "type": "amount"}]}],
                "tools": [{"name": "add_x", "description": "", "op": "add", "entity": "x", "field": "n",
                           "params": [["id", "key"], ["by", "amount"]],
                           "requires": [{"field": "n", "test": "no_less", "bound": 9},
                                        {"field": "n", "test": "no_more", "bound": 5}]}],
            },
            "can meet its preconditions",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_refused_with_the_reason(app, error):
    with pytest.raises(ValueError, match=error):
        read_app("Paywise", app)


def test_a_model_that_obeys_poison_makes_a_reject_and_not_an_app():
    made, bodies = asking(lambda _: "OWNED", lambda e: author_app(e, PAYWISE, Sampling(), num_repairs=0))
    assert made.value is None
    assert made.error.startswith("not JSON")
    asked = bodies[0]["messages"][1]["content"]
    assert asked.count("</data>") == 1
    assert asked.endswith("</data>")
    assert RULE in prompt(bodies[0])


def test_apps_and_rejects_are_written_and_not_asked_again(tmp_path):
    def rule(body):
        return json.dumps(GOOD) if "Paywise" in prompt(body) else "no"

    def use(endpoint):
        return author_apps(endpoint, [PAYWISE, VAULTLY], tmp_path, Sampling(), num_workers=2, limit_s=30)

    apps, bodies = asking(rule, use)
    (app,), (reject,) = jsonl.read(tmp_path / "apps.jsonl"), jsonl.read(tmp_path / "rejects.jsonl")
    assert app == {"category": "finance", "application": "Paywise", "app": GOOD, "num_attempts": 1}
    assert reject["application"] == "Vaultly"
    assert reject["reason"].startswith("not JSON")
    assert [attempt["text"] for attempt in reject["attempts"]] == ["no"] * 4
    assert apps == {PAYWISE: APP, VAULTLY: None}
    assert len(bodies) == 5
    again, bodies = asking(rule, use)
    assert again == apps
    assert bodies == []


def test_an_endpoint_that_is_down_is_no_reject(tmp_path):
    def use(endpoint):
        return author_apps(endpoint, [PAYWISE], tmp_path, Sampling(), num_workers=1, limit_s=30)

    assert asking(lambda _: 1 / 0, use)[0] == {}  # every answer is a 500
    assert not list(jsonl.read(tmp_path / "rejects.jsonl"))
    assert asking(lambda _: json.dumps(GOOD), use)[0] == {PAYWISE: APP}
