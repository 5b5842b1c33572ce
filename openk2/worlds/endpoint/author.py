"""An author of apps: an identity becomes a spec in the declarative language, checked and repaired (K2 §3.1, tool synthesis)."""

from __future__ import annotations

import functools
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from openk2.jobs import jsonl
from openk2.jobs.executor import run_jobs
from openk2.llm.endpoint import Endpoint, EndpointError
from openk2.llm.structured import Form, Structured, structured
from openk2.schema import JSON, Message, Sampling
from openk2.worlds.checks import FIELD_TYPES, FREE, ROLES
from openk2.worlds.endpoint.quote import RULE, quoted
from openk2.worlds.evolve.author import AppId
from openk2.worlds.evolve.lexicon import find_category
from openk2.worlds.evolve.self_check import self_check
from openk2.worlds.scenario.gates import failed_gate
from openk2.worlds.scenario.places import Place
from openk2.worlds.scenario.write import ScenarioConfig, write_scenario
from openk2.worlds.spec import App, Measure, Test

EXAMPLE: JSON = {
    "name": "Moorings",
    "entities": [
        {
            "name": "berth",
            "fields": [
                {"name": "berth_id", "type": "code"},
                {"name": "pier", "type": "word", "unique": True},
                {"name": "depth", "type": "amount", "default": 3},
                {"name": "state", "type": "enum", "values": ["free", "taken", "closed"]},
            ],
        },
        {
            "name": "boat",
            "fields": [
                {"name": "boat_id", "type": "code"},
                {"name": "berth", "type": "ref", "ref": "berth", "optional": True},
                {"name": "owner_email", "type": "email"},
                {"name": "arrived_on", "type": "date"},
                {"name": "credit", "type": "amount"},
            ],
        },
    ],
    "tools": [
        {"name": "read_boat", "description": "Show a boat.", "op": "get", "entity": "boat",
         "params": [["boat_id", "key"]], "returns": ["berth", "credit", "arrived_on"]},
        {"name": "berth_by_pier", "description": "Find the berth at a pier.", "op": "find", "entity": "berth",
         "params": [["pier", "pier"]], "field": "pier"},
        {"name": "list_boats", "description": "List boats by arrival.", "op": "search", "entity": "boat",
         "params": [["since", "arrived_on>=", True], ["berth", "berth", True], ["limit", "limit", True]],
         "returns": ["credit"], "order": "-arrived_on", "limit": 10},
        {"name": "total_credit", "description": "Add up credit.", "op": "aggregate", "entity": "boat",
         "params": [["berth", "berth"]], "measure": "sum", "field": "credit"},
        {"name": "close_berth", "description": "Close a free berth.", "op": "transition", "entity": "berth",
         "params": [["berth_id", "key"]], "field": "state", "target": "closed", "verb": "close",
         "requires": [{"field": "state", "test": "in", "values": ["free"]}]},
        {"name": "charge", "description": "Take a fee from a boat's credit.", "op": "take", "entity": "boat",
         "params": [["boat_id", "key"], ["fee", "amount"]], "field": "credit", "verb": "charge",
         "requires": [{"field": "credit", "test": "at_least"},
                      {"field": "state", "test": "in", "values": ["taken"], "via": "berth"}]},
        {"name": "revise_boat", "description": "Change several fields of a boat.", "op": "update", "entity": "boat",
         "params": [["boat_id", "key"], ["owner_email", "owner_email", True], ["arrived_on", "arrived_on", True]]},
    ],
}  # fmt: skip

INSTRUCTIONS = f"""You design small applications as data: entities with typed fields, and tools over them.

The first field of an entity is its key, of type code. Field types: {", ".join(FIELD_TYPES)}. An amount is an integer, an
enum lists its values (the first is the default), a ref names the entity whose key it holds and is optional where it may be
empty; refs must not go in a circle unless one of them is optional. unique: no two records share the value. default: what a
new record has, for an amount, enum, word or name. No field is called key, source, target or amount.

A tool has one operation (op) over one entity, and parameters as [name, role] or, where it may be left out, [name, role, true]:
- get: role key; returns at least one field.
- find: role is the field searched by, which is unique and stands in field.
- search: roles are fields other than the key, for an amount, date or time also "field>=" and "field<="; a parameter of
  role limit is allowed. returns fields; order is a field, with "-" in front from the highest; limit is the most shown.
- aggregate: roles as in search, without limit; measure count (no field), or sum, mean, min, max of the amount in field.
- create: roles are fields other than the key; every unique field and every ref that is not optional must be given.
- set: roles key and the field. update: role key and two or more fields. remove: role key.
- transition: role key; moves the enum field to target.
- add, take: roles key and amount, on an amount field. transfer: roles source, target and amount.
All but get, create, update, remove and search name their field. requires lists conditions on the record, or with via on the
record that this ref leads to: test in (among values), filled (not empty), at_least (the number covers the amount moved),
no_less and no_more (the number keeps to bound). get, find, search and aggregate have none; create only has some with via.
The verb is what people call the operation. Names are identifiers, lower case with underscores.

An example:
{json.dumps(EXAMPLE)}

{RULE}"""

_MOST = 200  # of anything in an app
_TRIALS = 5  # tasks written in an app before it is taken
NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,63}$"}
ROLE = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,63}(>=|<=)?$"}
TEXT = {"type": "string", "maxLength": 400}
FLAG = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0, "maximum": 100_000}


def _record(required: Iterable[str], **properties: JSON) -> JSON:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: JSON, least: int = 0) -> JSON:
    return {"type": "array", "items": items, "minItems": least, "maxItems": _MOST}


FIELD = _record(
    ("name", "type"),
    name=NAME, type={"enum": list(FIELD_TYPES)}, values=_list({"type": "string", "maxLength": 64}), ref=NAME, unique=FLAG,
    default={"anyOf": [{"type": "string", "maxLength": 64}, COUNT]}, optional=FLAG,
)  # fmt: skip
CONDITION = _record(
    ("field", "test"),
    field=NAME, test={"enum": list(get_args(Test))}, values=_list({"type": "string"}), via=NAME, bound=COUNT, policy=TEXT,
)  # fmt: skip
PARAM = {"type": "array", "prefixItems": [NAME, ROLE, FLAG], "minItems": 2, "maxItems": 3}
TOOL = _record(
    ("name", "description", "op", "entity", "params"),
    name=NAME, description=TEXT, op={"enum": [*ROLES, *FREE]}, entity=NAME, params=_list(PARAM), field=NAME,
    target={"type": "string"}, verb={"type": "string", "maxLength": 64}, returns=_list(NAME), requires=_list(CONDITION),
    measure={"enum": list(get_args(Measure))}, order={"type": "string", "pattern": "^(-?[A-Za-z][A-Za-z0-9_]*)?$"},
    limit={"type": "integer", "minimum": 0, "maximum": 100},
)  # fmt: skip
ENTITY = _record(("name", "fields"), name=NAME, fields=_list(FIELD, 1))
SCHEMA = _record(
    ("name", "entities", "tools"), name=NAME, entities=_list(ENTITY, 1), tools=_list(TOOL, 1), strict={"const": True}
)
log = logging.getLogger(__name__)


def read_app(name: str, data: Mapping[str, JSON]) -> App:
    """The app as scenarios need it: strict, called ``name``, every tool tried, and tasks over it that pass the gates.

    Raises ValueError with what would have to change.
    """
    app = App.from_json({**data, "strict": True})
    if app.name != name:
        raise ValueError(f"the app is called {app.name!r}, it should be {name!r}")
    try:
        if faults := self_check([app]).faults:
            raise ValueError("; ".join(faults[:3]))
        _try_tasks(Place(app))
    except (LookupError, sqlite3.Error) as error:
        raise ValueError(f"app {name} cannot be played: {error}") from error
    return app


def _try_tasks(place: Place) -> None:
    """Write a few tasks in the app; one at least has to pass the gates."""
    if not place.options:
        raise ValueError(f"app {place.app.name}: no goal is possible, as no tool shows a field that is no ref or acts")
    config = ScenarioConfig(share_long=0)
    found = [failed_gate(write_scenario(config, "train", index, [place])) for index in range(_TRIALS)]
    if None not in found:
        gates = ", ".join(f"{count} {gate}" for gate, count in Counter(found).items())
        raise ValueError(f"app {place.app.name}: none of {_TRIALS} tasks over it passed the gates ({gates})")


async def author_app(endpoint: Endpoint, app_id: AppId, sampling: Sampling, *, num_repairs: int = 3) -> Structured[App]:
    """The app of an identity; what ``read_app`` refuses goes back for repair."""
    kinds = find_category(app_id.category).kinds
    idea = {
        "name of the app": app_id.application,
        "category": app_id.category,
        "things that occur in it": {kind: list(words.nouns) for kind, words in kinds.items()},
    }
    asked = (
        f"Design the application of this idea, called {app_id.application}, with four to seven entities and at least twelve "
        f"tools, reading and writing, of as many operations as make sense:\n{quoted('idea', idea)}"
    )
    form = Form("app", SCHEMA, functools.partial(read_app, app_id.application))
    messages = [Message("system", INSTRUCTIONS), Message("user", asked)]
    return await structured(endpoint, messages, form, sampling, num_repairs=num_repairs)


async def author_apps(
    endpoint: Endpoint, app_ids: Iterable[AppId], folder: Path, sampling: Sampling, *, num_workers: int, limit_s: float
) -> dict[AppId, App | None]:
    """Apps of all identities, None for the refused: ``apps.jsonl``, and ``rejects.jsonl`` with the reason and every attempt.

    What an earlier run has settled is not asked again. Identities that got no answer are missing from the result, and a
    later run asks for them; ``limit_s`` is for one app with its repairs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accepted, rejected = folder / "apps.jsonl", folder / "rejects.jsonl"
    apps: dict[AppId, App | None] = {}
    for path in (rejected, accepted):
        for record in jsonl.read(path) if path.exists() else ():
            app_id = AppId(record["category"], record["application"])
            apps[app_id] = App.from_json(record["app"]) if path == accepted else None
    left = [app_id for app_id in app_ids if app_id not in apps]
    with jsonl.Appender(accepted) as taken, jsonl.Appender(rejected) as refused:
        jobs = run_jobs(
            lambda app_id: author_app(endpoint, app_id, sampling), left, num_workers=num_workers, limit_s=limit_s
        )
        async for outcome in jobs:
            if isinstance(outcome.error, EndpointError | TimeoutError):
                log.warning("no answer for %s, a later run asks again: %s", outcome.item.application, outcome.error)
                continue
            if outcome.error is not None:
                raise outcome.error
            made, app_id = outcome.value, outcome.item
            assert made is not None, "a job without an error has a value"
            apps[app_id] = made.value
            name = {"category": app_id.category, "application": app_id.application}
            if made.value is not None:
                taken.write(name | {"app": made.value.to_json(), "num_attempts": len(made.attempts)})
            else:
                attempts = [attempt.to_json() for attempt in made.attempts]
                refused.write(name | {"reason": made.error, "attempts": attempts})
    return apps
