"""An author of apps: an idea becomes a spec in the declarative language, checked and repaired (K2 §3.1, tool synthesis)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from openk2.jobs import jsonl
from openk2.jobs.executor import run_jobs
from openk2.jobs.funnel import Funnel
from openk2.llm.endpoint import Endpoint, EndpointError
from openk2.llm.structured import Form, Structured, structured
from openk2.schema import JSON, Message, Sampling
from openk2.worlds.checks import FIELD_TYPES, ROLES
from openk2.worlds.endpoint.quote import RULE, quoted
from openk2.worlds.spec import App

INSTRUCTIONS = f"""You design small applications as data: entities with typed fields, and tools over them.

The first field of an entity is its key, of type code. Field types: code, name, word, email, date, time, amount (an
integer), enum (lists its values, the first is the default), ref (names the entity whose key it holds). No field is
called key, source, target or amount.

A tool has one operation over one entity, and parameters as pairs [name, role]:
- get: role key; returns at least one field.
- find: role is the field searched by, which is unique.
- create: roles are fields other than the key.
- set: roles key and the field. transition: role key; moves the enum field to target.
- add, take: roles key and amount, on an amount field. transfer: roles source, target and amount.
All but get and create name their field. Requires lists conditions: field, and test "in" with values, or "at_least" for a
number that must cover the amount moved. The verb is what people call the operation.

{RULE}"""

NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,63}$"}
NAMES = {"type": "array", "items": {"type": "string"}}


def _record(required: Iterable[str], **properties: JSON) -> JSON:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


SCHEMA = _record(
    ("name", "entities", "tools"),
    name=NAME,
    entities={
        "type": "array",
        "minItems": 1,
        "items": _record(
            ("name", "fields"),
            name=NAME,
            fields={
                "type": "array",
                "minItems": 1,
                "items": _record(
                    ("name", "type"),
                    name=NAME, type={"enum": list(FIELD_TYPES)}, values=NAMES, ref=NAME, unique={"type": "boolean"},
                ),
            },
        ),
    },
    tools={
        "type": "array",
        "minItems": 1,
        "items": _record(
            ("name", "description", "op", "entity", "params"),
            name=NAME, description={"type": "string"}, op={"enum": ["create", *ROLES]}, entity=NAME,
            params={"type": "array", "items": {"type": "array", "items": NAME, "minItems": 2, "maxItems": 2}},
            field=NAME, target={"type": "string"}, verb={"type": "string"}, returns=NAMES,
            requires={
                "type": "array",
                "items": _record(("field", "test"), field=NAME, test={"enum": ["in", "at_least"]}, values=NAMES),
            },
        ),
    },
)  # fmt: skip
log = logging.getLogger(__name__)
FORM = Form("app", SCHEMA, App.from_json)


async def author_app(endpoint: Endpoint, idea: str, sampling: Sampling, *, num_repairs: int = 3) -> Structured[App]:
    """One app for an idea such as "a ferry company's bookings"; what ``spec.check`` refuses goes back for repair."""
    asked = (
        f"Design an application for this idea, with at least five tools, reading and writing:\n{quoted('idea', idea)}"
    )
    messages = [Message("system", INSTRUCTIONS), Message("user", asked)]
    return await structured(endpoint, messages, FORM, sampling, num_repairs=num_repairs)


async def author_apps(
    endpoint: Endpoint, ideas: Iterable[str], folder: Path, sampling: Sampling, *, num_workers: int, limit_s: float
) -> Funnel:
    """Apps for all ideas: ``apps.jsonl``, and ``rejects.jsonl`` with the reason and every attempt.

    Ideas that an earlier run has settled are not asked again, those that got no answer are; ``limit_s`` is for one idea
    with its repairs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accepted, rejected = folder / "apps.jsonl", folder / "rejects.jsonl"
    settled = {record["idea"] for path in (accepted, rejected) if path.exists() for record in jsonl.read(path)}
    left = (idea for idea in dict.fromkeys(ideas) if idea not in settled)
    funnel = Funnel()
    with jsonl.Appender(accepted) as apps, jsonl.Appender(rejected) as rejects:
        jobs = run_jobs(
            lambda idea: author_app(endpoint, idea, sampling), left, num_workers=num_workers, limit_s=limit_s
        )
        async for outcome in jobs:
            if isinstance(outcome.error, EndpointError | TimeoutError):
                funnel.reject("author", "no answer")
                log.warning("no answer for the idea %r, a later run asks again: %s", outcome.item, outcome.error)
                continue
            if outcome.error is not None:
                raise outcome.error
            made = outcome.value
            assert made is not None, "a job without an error has a value"
            attempts = [attempt.to_json() for attempt in made.attempts]
            if made.value is not None:
                apps.write({"idea": outcome.item, "app": made.value.to_json(), "num_attempts": len(attempts)})
                funnel.keep("author")
            else:
                rejects.write({"idea": outcome.item, "reason": made.error, "attempts": attempts})
                funnel.reject("author", made.error)
    return funnel
