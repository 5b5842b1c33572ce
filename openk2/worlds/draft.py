"""What a kind of task writes with: records to invent, calls to plan, demands to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from openk2.schema import JSON, RubricItem
from openk2.worlds.spec import App, Entity, Field, Tool
from openk2.worlds.values import Pool


@dataclass
class Goal:
    """A task before assembly: calls in order, demands, and the words that request and answer are made of."""

    steps: list[tuple[Tool, JSON]] = field(default_factory=list)
    items: list[RubricItem] = field(default_factory=list)
    slots: JSON = field(default_factory=dict)
    touched: list[tuple[str, str]] = field(default_factory=list)  # (entity, key) of records that change

    def call(self, tool: Tool, /, **roles: Any) -> None:
        """Plan a call."""
        self.steps.append((tool, tool.arguments(**roles)))

    def expect(self, entity: Entity, key: str, column: str, value: str | int) -> None:
        """Demand that a field of a record ends up with a value."""
        name = "changed" if not self.touched else f"changed_{len(self.touched) + 1}"
        spec = {"entity": entity.name, "key": key, "field": column, "equals": value}
        self.items.append(RubricItem(name, "state", spec))
        self.touched.append((entity.name, key))

    def expect_new(self, entity: Entity, key: str, values: JSON) -> None:
        """Demand a new record with these values."""
        self.items.append(RubricItem("created", "state", {"entity": entity.name, "key": key, "has": values}))
        self.touched.append((entity.name, key))

    def looked(self, tool: Tool, /, **roles: Any) -> None:
        """Demand that a reading call was made."""
        spec = {"tool": tool.name, "arguments": tool.arguments(**roles)}
        self.items.append(RubricItem("looked_up", "call", spec, weight=0.5))

    def forbid(self, tool: Tool) -> None:
        """Demand that a tool is left alone."""
        self.items.append(RubricItem("left_alone", "forbid", {"tool": tool.name}))

    def says(self, value: str | int, *, grounded: bool = False, without: tuple[str | int, ...] = ()) -> None:
        """Demand that the answer names a value: ``grounded`` ones only after a tool has shown them."""
        spec: JSON = {"value": value}
        if grounded:
            spec["grounded"] = True
        if without:
            spec["without"] = list(without)
        name = "says" if all(item.check != "fact" for item in self.items) else "says_too"
        self.items.append(RubricItem(name, "fact", spec))


class Draft:
    """The records of one task in the making, all values from one pool."""

    def __init__(self, app: App, rng: Random, pool: Pool) -> None:
        self.app = app
        self.rng = rng
        self._pool = pool
        self.rows: dict[str, list[JSON]] = {entity.name: [] for entity in app.entities}
        self.fresh: dict[str, list[str]] = {}

    def entity(self, tool: Tool) -> Entity:
        """What a tool works on."""
        return self.app.entity(tool.entity)

    def row(self, entity: Entity, /, **fixed: str | int) -> JSON:
        """A new record, random where not ``fixed``."""
        made = {f.name: fixed[f.name] if f.name in fixed else self._pool.value(f) for f in entity.fields}
        self.rows[entity.name].append(made)
        return made

    def ready(self, tool: Tool, *, amount: int = 0) -> JSON:
        """A new record that meets the tool's preconditions."""
        entity = self.entity(tool)
        fixed: dict[str, str | int] = {}
        for condition in tool.requires:
            if condition.test == "at_least":
                fixed[condition.field] = self._pool.amount(max(amount + 1, 100), max(2 * amount, 999))
            else:
                fixed[condition.field] = self.rng.choice(condition.values)
        return self.row(entity, **fixed)

    def value(self, column: Field, old: str | int | None = None) -> str | int:
        """A value for a column, other than ``old``."""
        while True:
            value = self._pool.value(column)
            if value != old:
                return value

    def amount(self) -> int:
        """An amount to move."""
        return self._pool.amount(10, 99)

    def code(self) -> str:
        """A key nobody bears yet."""
        return self._pool.code()

    def new_key(self, entity: Entity) -> str:
        """The key that the next new record of ``entity`` will take."""
        keys = [self.code() for _ in range(3)]
        self.fresh[entity.name] = keys
        return keys[0]
