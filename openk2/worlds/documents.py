"""Pre-training text about the worlds: manuals, records retold in sentences, logs of calls and results.

Made of demonstrated apps and values of the training pool alone, and never in the form of a dialogue. The text is copy-rich:
what a record or a result shows is said again in words, which is what a small model has to learn first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from random import Random
from typing import Any

from openk2.schema import JSON, Task, ToolCall
from openk2.worlds.config import WorldsConfig
from openk2.worlds.simulator import Simulator, encode
from openk2.worlds.spec import App, Entity
from openk2.worlds.tasks import make_task
from openk2.worlds.tools import compile_tools

FACTS = (
    "The {field} of {entity} {key} is {value}.",
    "{entity} {key} has the {field} {value}.",
    "{key}: {field} {value}.",
    "For {entity} {key} the {field} reads {value}.",
    "{value} is the {field} of {entity} {key}.",
)
CALLED = (
    "Calling {tool} with {arguments} gives {result}.",
    "{tool} {arguments}\n{result}",
    "> {tool}({arguments})\n{result}",
    "Call {tool}, arguments {arguments}. Return: {result}",
)


def documents(config: WorldsConfig, num_documents: int) -> Iterator[str]:
    """``num_documents`` texts, each from a training task that no demonstration uses, told in two of the forms below."""
    for index in range(num_documents):
        task = make_task(config, "train", config.num_train + index)
        rng = Random(f"documents/{config.seed}/{index}")
        yield "\n\n".join(form(task, rng) for form in rng.sample(FORMS, 2))


def _manual(task: Task, rng: Random) -> str:
    """The tools in prose and as JSON, one example each where the plan has one."""
    app = App.from_json(task.payload["app"])
    lines = []
    for tool, spec in zip(app.tools, compile_tools(app), strict=True):
        names = " and ".join(param.name for param in tool.params)
        prose = f"{tool.name}: {tool.description}. Takes {names}."
        lines += [prose, encode(spec.to_json())] if rng.random() < 0.5 else [encode(spec.to_json()), prose]
        for step in task.payload["plan"]:
            if step["tool"] == tool.name:
                lines.append(f"Example: {tool.name} {encode(step['arguments'])}")
    return "\n".join(lines)


def _records(task: Task, rng: Random) -> str:
    """Records as JSON, then their fields in sentences, in another order."""
    app = App.from_json(task.payload["app"])
    lines, facts = [], []
    for entity in app.entities:
        for row in task.payload["rows"][entity.name]:
            lines.append(encode(row))
            facts += [_fact(entity, row, field.name, rng) for field in rng.sample(entity.fields[1:], 2)]
    rng.shuffle(facts)
    return "\n".join(lines + facts)


def _log(task: Task, rng: Random) -> str:
    """Calls as they execute, each with its result, and what became of the record."""
    lines = []
    with closing(Simulator(task.payload, 0, fault_rate=0.0)) as world:
        for step in task.payload["plan"]:
            arguments = encode(step["arguments"])
            result = world.run(ToolCall("", step["tool"], arguments))
            lines.append(rng.choice(CALLED).format(tool=step["tool"], arguments=arguments, result=result))
            lines += [f"{name} {value}" for name, value in json.loads(result).items() if name != "ok"]
        for before, after, entity in _changes(world):
            lines.append(f"Before: {encode(before)}")
            lines.append(f"After: {encode(after)}")
            lines += [_fact(entity, after, n, rng) for n in after if before.get(n) != after[n] and n != entity.key]
    return "\n".join(lines)


def _changes(world: Simulator) -> Iterator[tuple[JSON, JSON, Entity]]:
    after = world.rows()
    for entity in world.app.entities:
        for key, row in after[entity.name].items():
            old = world.initial[entity.name].get(key, {})
            if row != old:
                yield old, row, entity


def _repeats(task: Task, rng: Random) -> str:
    """The same records twice, the second time in another order: to be copied by key."""
    rows: list[Mapping[str, Any]] = [row for rows in task.payload["rows"].values() for row in rows]
    again = rng.sample(rows, len(rows))
    return "\n".join([*(encode(row) for row in rows), "Again:", *(encode(row) for row in again)])


def _fact(entity: Entity, row: Mapping[str, Any], field: str, rng: Random) -> str:
    return rng.choice(FACTS).format(
        field=entity.field(field).label, entity=entity.label, key=row[entity.key], value=row[field]
    )


FORMS: tuple[Callable[[Task, Random], str], ...] = (_manual, _records, _log, _repeats)
