"""Records of a strict app in the making: refs lead somewhere, and what a tool demands is met."""

from __future__ import annotations

from openk2.schema import JSON
from openk2.worlds.draft import Draft
from openk2.worlds.spec import Condition, Entity, Field, Tool


class Records(Draft):
    """A draft whose records point to records. A new one is made where none is at hand."""

    def row(self, entity: Entity, /, **fixed: str | int) -> JSON:
        """A new record, random where not ``fixed``; what it points to exists."""
        for field in entity.fields[1:]:
            if field.ref and field.name not in fixed:
                fixed[field.name] = self.existing(field)
        return super().row(entity, **fixed)

    def existing(self, field: Field) -> str:
        """The key of some record that a ref may hold."""
        entity = self.app.entity(field.ref)
        rows = self.rows[entity.name]
        if field.optional and not rows:
            return ""
        if not rows or self.rng.random() < 0.3:
            return str(self.row(entity)[entity.key])
        return str(self.rng.choice(rows)[entity.key])

    def ready(self, tool: Tool, *, amount: int = 0) -> JSON:
        """A new record on which the tool will work."""
        entity = self.entity(tool)
        fixed = self._meeting(entity, [c for c in tool.requires if not c.via], amount)
        return self.row(entity, **fixed, **self.links(tool))

    def links(self, tool: Tool) -> dict[str, str | int]:
        """What the refs that conditions go through must hold: records that meet them."""
        entity, links = self.entity(tool), dict[str, list[Condition]]()
        for condition in tool.requires:
            if condition.via:
                links.setdefault(condition.via, []).append(condition)
        found: dict[str, str | int] = {}
        for name, conditions in links.items():
            target = self.app.entity(entity.field(name).ref)
            found[name] = self.row(target, **self._meeting(target, conditions, 0))[target.key]
        return found

    def _meeting(self, entity: Entity, conditions: list[Condition], amount: int) -> dict[str, str | int]:
        """Values under which the conditions hold."""
        fixed: dict[str, str | int] = {}
        low: dict[str, int] = {}
        high: dict[str, int] = {}
        for condition in conditions:
            name = condition.field
            match condition.test:
                case "in":
                    fixed[name] = self.rng.choice(condition.values)
                case "at_least":
                    low[name] = max(low.get(name, 0), amount + 1, 100)
                case "no_less":
                    low[name] = max(low.get(name, 0), condition.bound)
                case "no_more":
                    high[name] = min(high.get(name, condition.bound), condition.bound)
                case "filled":
                    field = entity.field(name)
                    fixed[name] = self.existing(field) if field.ref else self.value(field)
        for name in dict.fromkeys((*low, *high)):
            least = low.get(name, 0)
            fixed[name] = self.rng.randint(least, max(high.get(name, 2 * least + 900), least))
        return fixed

    def new_key(self, entity: Entity) -> str:
        """The key that the next new record takes, one after the other."""
        key = self.code()
        self.fresh.setdefault(entity.name, []).append(key)
        return key
