"""Records made to meet the preconditions of a tool, or to break one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openk2.schema import JSON
from openk2.worlds.spec import App, Condition, Entity, Field, Tool

AMOUNT = 7  # what calls move
NOWHERE = "nowhere"  # the key of no record


class Records:
    """Rows of a strict app that hold together: every ref that must lead to a record does."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._num_values = 0
        self.rows: dict[str, list[JSON]] = {entity.name: [] for entity in app.entities}

    def add(self, entity: Entity, **fixed: str | int) -> JSON:
        """A new record, with the records that it needs; no value of it occurs elsewhere but choices."""
        row = {field.name: fixed[field.name] if field.name in fixed else self._usual(field) for field in entity.fields}
        self.rows[entity.name].append(row)
        return row

    def _usual(self, column: Field) -> str | int:
        return "" if column.optional else self.value(column)

    def value(self, column: Field) -> str | int:
        """A new value for a column; a ref's is the key of a new record."""
        if column.ref:
            target = self._app.entity(column.ref)
            return str(self.add(target)[target.key])
        self._num_values += 1
        n = self._num_values
        match column.type:
            case "enum":
                return column.values[n % len(column.values)]
            case "amount":
                return 100 + n
            case "email":
                return f"person{n}@example.org"
            case "date":
                return f"{2000 + n // 336 % 1000}-{n // 28 % 12 + 1:02d}-{n % 28 + 1:02d}"
            case "time":
                return f"{n // 60 % 24:02d}:{n % 60:02d}"
            case _:
                return f"{column.type} {n}"

    def meeting(self, tool: Tool, broken: Condition | None) -> dict[str, str | int]:
        """Values for a record of the tool's entity under which all preconditions hold but ``broken``.

        Raises ValueError where no value does.
        """
        entity = self._app.entity(tool.entity)
        fixed = self._fixed(tool, entity, "", broken)
        for via in dict.fromkeys(condition.via for condition in tool.requires if condition.via):
            holder = self._app.entity(entity.field(via).ref)
            fixed[via] = str(self.add(holder, **self._fixed(tool, holder, via, broken))[holder.key])
        return fixed

    def _fixed(self, tool: Tool, holder: Entity, via: str, broken: Condition | None) -> dict[str, str | int]:
        tests: dict[str, list[Condition]] = {}
        for condition in tool.requires:
            if condition.via == via:
                tests.setdefault(condition.field, []).append(condition)
        return {name: self._fitting(holder.field(name), some, broken) for name, some in tests.items()}

    def _fitting(self, column: Field, tests: Sequence[Condition], broken: Condition | None) -> str | int:
        for value in self._candidates(column, tests):
            if broken in tests and not _holds(broken, value):
                return value
            if broken not in tests and all(_holds(test, value) for test in tests):
                return value
        raise ValueError(f"no {column.name} can {'break' if broken in tests else 'meet'} its preconditions")

    def _candidates(self, column: Field, tests: Sequence[Condition]) -> Iterator[str | int]:
        if column.values:
            yield from column.values
        elif column.is_number:
            for bound in (AMOUNT, *(test.bound for test in tests)):
                yield from (bound, bound - 1, bound + 1)
        else:
            yield from (value for test in tests for value in test.values)
            yield from (self.value(column), "")


def _holds(condition: Condition | None, value: str | int) -> bool:
    """Whether a value meets the condition where ``AMOUNT`` moves. Written apart from the executor, to check it."""
    assert condition is not None
    match condition.test:
        case "in":
            return value in condition.values
        case "filled":
            return value != ""
        case "at_least":
            return int(value) >= AMOUNT
        case "no_less":
            return int(value) >= condition.bound
        case "no_more":
            return int(value) <= condition.bound
