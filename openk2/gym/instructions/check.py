"""A check is a small pure function of a reply; a constraint is data that names one with its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError, create_model

Number = Annotated[StrictInt, Field(ge=0, le=1_000_000)]
Count = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Phrase = Annotated[StrictStr, Field(min_length=1, pattern=r"\S")]
Phrases = Annotated[list[Phrase], Field(min_length=1)]
Character = Annotated[StrictStr, Field(min_length=1, max_length=1)]
Flag = StrictBool
Relation = Literal["at least", "at most", "less than", "more than", "exactly"]


def compare(found: int, relation: Relation, number: int) -> bool:
    """Whether ``found`` stands in the relation to ``number``."""
    match relation:
        case "at least":
            return found >= number
        case "at most":
            return found <= number
        case "less than":
            return found < number
        case "more than":
            return found > number
        case "exactly":
            return found == number


@dataclass(frozen=True, slots=True)
class Check:
    """A function ``(reply, **parameters) -> bool`` that raises for no reply, and the form of its parameters."""

    name: str
    function: Callable[..., bool]
    form: type[BaseModel]

    @classmethod
    def of(cls, function: Callable[..., bool]) -> Check:
        """Named after the function; its signature says what the parameters are."""
        kinds = get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        fields: dict[str, Any] = {
            parameter.name: (kinds[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
            for parameter in parameters
        }
        form = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
        return cls(function.__name__, function, form)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A check with its parameters."""

    check: Check
    parameters: Mapping[str, Any]

    def holds(self, reply: str) -> bool:
        """Whether the reply keeps to it; a blank one keeps to nothing."""
        return bool(reply.strip()) and self.check.function(reply, **self.parameters)


def group(*functions: Callable[..., bool]) -> dict[str, Check]:
    """The checks of a file, by name."""
    return {function.__name__: Check.of(function) for function in functions}


def read(spec: Mapping[str, Any], checks: Mapping[str, Check]) -> Constraint:
    """The constraint that ``{"check": name, **parameters}`` describes.

    Raises ValueError for an unknown check, and for a parameter that is missing, unknown or wrong, naming both.
    """
    name = spec.get("check")
    if not isinstance(name, str) or name not in checks:
        raise ValueError(f"no check called {name!r}; there are {', '.join(sorted(checks))}")
    given = {key: value for key, value in spec.items() if key != "check"}
    try:
        form = checks[name].form.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or "parameters"
        raise ValueError(f'check "{name}", "{place}": {wrong["msg"]}, got {wrong["input"]!r}') from error
    return Constraint(checks[name], {key: getattr(form, key) for key in checks[name].form.model_fields})
