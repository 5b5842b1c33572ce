"""The tools of an application: operations over its entities with parameters and preconditions, seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

from openk2.worlds.evolve.entities import Noun
from openk2.worlds.evolve.lexicon import Move
from openk2.worlds.evolve.wording import Wording, plural
from openk2.worlds.policies import fact, listed
from openk2.worlds.spec import RANGED, App, Condition, Field, Measure, Op, Param, Tool

MEASURES: tuple[Measure, ...] = ("count", "sum", "mean", "min", "max")


def draw_tools(nouns: Sequence[Noun], wording: Wording, rng: Random) -> tuple[Tool, ...]:
    """Every operation that the entities allow, some of them in several forms, under distinct names."""
    tools: dict[str, Tool] = {}
    for noun in nouns:
        for tool in Operations(noun, nouns, wording, rng).draw():
            tools.setdefault(tool.name.lower(), tool)
    return tuple(tools.values())


class Operations:
    """The tools of one entity."""

    def __init__(self, noun: Noun, nouns: Sequence[Noun], wording: Wording, rng: Random) -> None:
        self._noun, self._entity = noun, noun.entity
        self._others = {other.entity.name: other for other in nouns}
        self._app = App("", tuple(other.entity for other in nouns), ())
        self._many = plural(noun.entity.label).replace(" ", "_")
        self._wording, self._rng = wording, rng

    def draw(self) -> Iterator[Tool]:
        """Reading tools, then writing ones."""
        fields = self._entity.fields[1:]
        yield self._get(_some(fields, 3, 5, self._rng), "")
        if self._rng.random() < 0.3:
            yield self._get([self._noun.status], self._noun.status.name)
        for field in fields:
            if field.unique and self._rng.random() < 0.7:
                yield self._find(field)
        for rank in range(self._rng.choice((1, 2))):
            yield self._search(rank)
        for measure in self._rng.sample(MEASURES, self._rng.choice((1, 1, 2))):
            yield self._aggregate(measure)
        yield self._create()
        settable = [field for field in fields if field != self._noun.status and not self._is_count(field)]
        for field in _some(settable, 1, 2, self._rng):
            yield self._set(field)
        yield self._update(_some(settable, 2, 4, self._rng))
        yield from map(self._transition, self._noun.moves)
        for count in self._noun.counts:
            yield self._change("add", count.field, count.up)
            yield self._change("take", count.field, count.down)
            if self._rng.random() < 0.25:
                yield self._transfer(count.field)
        if self._rng.random() < 0.6:
            yield self._remove()

    def _get(self, shown: Sequence[Field], what: str) -> Tool:
        tool = self._tool("get", ["key"], thing=_join(self._entity.name, what), shown=_names(shown))
        return replace(tool, returns=tuple(field.name for field in shown))

    def _find(self, field: Field) -> Tool:
        tool = self._tool("find", [field.name], thing=f"{self._entity.name}_by_{field.name}", by=field.label)
        return replace(tool, field=field.name)

    def _search(self, rank: int) -> Tool:
        filters = self._filters()
        shown = _some([field for field in self._entity.fields[1:] if not field.unique], 1, 3, self._rng)
        roles = [*filters, *(["limit"] if self._rng.random() < 0.5 else [])]
        must = [] if rank == 0 or self._rng.random() < 0.5 else filters[:1]
        thing = self._many if rank == 0 else f"{self._many}_by_{_field_of(filters[0])}"
        given = self._said(filters)
        tool = self._tool(
            "search", roles, thing=thing, optional=set(roles) - set(must), given=given, shown=_names(shown)
        )
        order = self._rng.choice(("", *(way + f.name for f in shown if f.type in RANGED for way in ("", "-"))))
        limit = self._rng.choice((5, 10, 20, 25, 50))
        return replace(tool, returns=tuple(field.name for field in shown), order=order, limit=limit)

    def _aggregate(self, measure: Measure) -> Tool:
        numbers = [field for field in self._entity.fields if field.is_number]
        field = None if measure == "count" else self._rng.choice(numbers)
        filters = self._filters()
        must = filters[:1] if self._rng.random() < 0.4 else []
        name = f"{measure}_{field.name}" if field else "count"
        tool = self._tool(
            "aggregate", filters, verb=name, thing=f"of_{self._many}", lead=measure,
            optional=set(filters) - set(must), given=self._said(filters), field=field.label if field else "",
        )  # fmt: skip
        return replace(tool, measure=measure, field=field.name if field else "")

    def _create(self) -> Tool:
        fields = self._entity.fields[1:]
        must = [f for f in fields if f.unique or (f.ref and not f.optional)]
        rest = [f for f in fields if f not in must and f != self._noun.status and not self._is_count(f)]
        more = _some(rest, 1, 4, self._rng)
        given = [f for f in fields if f in must or f in more]
        optional = {f.name for f in more if self._rng.random() < 0.5}
        refs = [f.name for f in must if f.ref]
        requires = tuple(self._via(self._rng.choice(refs)) for _ in range(1) if refs and self._rng.random() < 0.6)
        roles = [f.name for f in given]
        return self._tool("create", roles, optional=optional, requires=requires, given=_names(given))

    def _set(self, field: Field) -> Tool:
        requires = self._conditions(0.5, avoid={field.name})
        thing = f"{self._entity.name}_{field.name}"
        tool = self._tool("set", ["key", field.name], thing=thing, requires=requires, field=field.label)
        return replace(tool, field=field.name)

    def _update(self, fields: Sequence[Field]) -> Tool:
        roles = [field.name for field in fields]
        optional = set(roles) if self._rng.random() < 0.7 else set(roles[1:])
        requires = self._conditions(0.4, avoid=set(roles))
        return self._tool("update", ["key", *roles], optional=optional, requires=requires, given=_names(fields, "or"))

    def _transition(self, move: Move) -> Tool:
        column = self._noun.status
        others = [value for value in column.values if value != move.target]
        allowed = self._rng.sample(others, self._rng.randint(1, min(3, len(others))))
        kept = tuple(value for value in column.values if value in allowed)
        requires = (Condition(column.name, "in", kept), *self._conditions(0.35, avoid={column.name}))
        tool = self._tool(
            "transition", ["key"], verb=move.verb, requires=requires,
            field=column.label, target=move.target.replace("_", " "),
        )  # fmt: skip
        return replace(tool, field=column.name, target=move.target)

    def _change(self, op: Literal["add", "take"], field: Field, verb: str) -> Tool:
        covers = (Condition(field.name, "at_least"),) if op == "take" else ()
        requires = (*covers, *self._conditions(0.4, avoid={field.name}))
        thing = f"{self._entity.name}_{field.name}"
        tool = self._tool(op, ["key", "amount"], verb=verb, thing=thing, requires=requires, field=field.label)
        return replace(tool, field=field.name)

    def _transfer(self, field: Field) -> Tool:
        requires = (Condition(field.name, "at_least"), *self._conditions(0.4, avoid={field.name}))
        roles, thing = ["source", "target", "amount"], f"{self._entity.name}_{field.name}"
        tool = self._tool("transfer", roles, thing=thing, requires=requires, field=field.label)
        return replace(tool, field=field.name)

    def _remove(self) -> Tool:
        return self._tool("remove", ["key"], requires=self._conditions(0.8, avoid=set()))

    def _tool(
        self, op: Op, roles: Sequence[str], *, verb: str = "", thing: str = "", lead: str = "",
        optional: set[str] | None = None, requires: tuple[Condition, ...] = (), **slots: str,
    ) -> Tool:  # fmt: skip
        """A tool in the application's words; the operation's own attributes are for the caller to fill in."""
        spoken = (verb or self._wording.verb(op)).replace("_", " ")
        params = tuple(
            Param(self._wording.parameter(role, self._entity, op), role, role in (optional or ())) for role in roles
        )
        bare = Tool(
            self._wording.name(verb or self._wording.verb(op), thing or self._entity.name), "", op, self._entity.name,
            _distinct(params, self._entity.key), verb=spoken, requires=requires,
        )  # fmt: skip
        facts = [fact(self._app, bare, condition) for condition in requires]
        text = self._wording.description(lead or op, self._entity, facts, verb=spoken, **slots)
        return replace(bare, description=text)

    def _conditions(self, chance: float, avoid: set[str]) -> tuple[Condition, ...]:
        """Up to two preconditions on different fields, none of them in ``avoid``."""
        drawn: list[Condition] = []
        status, rng = self._noun.status, self._rng
        if status.name not in avoid and rng.random() < chance:
            some = rng.sample(status.values, rng.randint(1, len(status.values) - 1))
            drawn.append(Condition(status.name, "in", tuple(value for value in status.values if value in some)))
        if self._noun.refs and rng.random() < chance * 0.7:
            ref = rng.choice(self._noun.refs)
            if ref.name not in avoid and ref.ref != self._entity.name:
                drawn.append(self._via(ref.name))
        numbers = [count.field.name for count in self._noun.counts if count.field.name not in avoid]
        if numbers and rng.random() < chance * 0.4:
            test, bounds = rng.choice((("no_less", (1, 5, 10, 50)), ("no_more", (0, 20, 100, 500))))
            drawn.append(Condition(rng.choice(numbers), test, bound=rng.choice(bounds)))  # type: ignore[arg-type]
        texts = [f.name for f in self._entity.fields[1:] if f.type in ("date", "word", "time") and f.name not in avoid]
        if texts and rng.random() < chance * 0.4:
            drawn.append(Condition(rng.choice(texts), "filled"))
        return tuple(drawn[:2])

    def _via(self, ref: str) -> Condition:
        """The record that this ref points to has a fitting status."""
        holder = self._others[self._entity.field(ref).ref]
        values = holder.status.values
        some = self._rng.sample(values, self._rng.randint(1, len(values) - 1))
        return Condition(holder.status.name, "in", tuple(value for value in values if value in some), via=ref)

    def _filters(self) -> list[str]:
        """Roles of one to four filters: choices and refs by value, numbers, dates and times by range."""
        roles = []
        for field in self._entity.fields[1:]:
            if field.values or field.ref:
                roles.append([field.name])
            elif field.type in RANGED:
                roles.append([f"{field.name}{way}" for way in self._rng.choice(((">=",), ("<=",), (">=", "<=")))])
        chosen = self._rng.sample(roles, min(len(roles), self._rng.choice((1, 2, 2, 3))))
        return [role for some in chosen for role in some]

    def _said(self, roles: Sequence[str]) -> str:
        names = dict.fromkeys(self._entity.field(_field_of(role)).label for role in roles)
        return listed(list(names), "and")

    def _is_count(self, field: Field) -> bool:
        return any(field == count.field for count in self._noun.counts)


def _distinct(params: tuple[Param, ...], key: str) -> tuple[Param, ...]:
    """The parameters, the later of two of one name bearing its role's name."""
    seen: set[str] = set()
    out = []
    for param in params:
        name = param.name if param.name.lower() not in seen else (key if param.role == "key" else param.role)
        seen.add(name.lower())
        out.append(param if name == param.name else replace(param, name=name))
    return tuple(out)


def _some(items: Sequence[Field], fewest: int, most: int, rng: Random) -> list[Field]:
    return rng.sample(items, min(len(items), rng.randint(fewest, most)))


def _names(fields: Sequence[Field], joint: str = "and") -> str:
    return listed([field.label for field in fields], joint)


def _field_of(role: str) -> str:
    return role.rstrip("<>=")


def _join(*words: str) -> str:
    return "_".join(filter(None, words))
