"""Objects instead of prose: asked for by schema, validated, and sent back with what was wrong a bounded number of times."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

try:
    import jsonschema
except ImportError as error:
    raise ImportError("structured answers need jsonschema: pip install 'openk2[llm]'") from error

from pydantic import BaseModel, ValidationError

from openk2.llm.endpoint import Endpoint
from openk2.schema import JSON, Message, Sampling

Value = TypeVar("Value")
Model = TypeVar("Model", bound=BaseModel)
FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Form(Generic[Value]):
    """What an answer has to be: ``schema`` is shown to the endpoint, ``read`` makes the value or raises ValueError.

    ``read`` gets what the schema allows, and may ask for more than a schema can say.
    """

    name: str
    schema: Mapping[str, Any]
    read: Callable[[Any], Value]

    @classmethod
    def of(cls, model: type[Model]) -> Form[Model]:
        """A pydantic model."""
        return Form(model.__name__, model.model_json_schema(), model.model_validate)

    @classmethod
    def plain(cls, name: str, schema: Mapping[str, Any]) -> Form[Any]:
        """A JSON schema; the value is plain JSON."""
        return Form(name, schema, lambda value: value)

    def response_format(self) -> JSON:
        """The form in OpenAI's shape."""
        return {"type": "json_schema", "json_schema": {"name": self.name, "schema": dict(self.schema)}}


@dataclass(frozen=True, slots=True)
class Attempt:
    """An answer as written, and what was wrong with it; empty for the one that was accepted."""

    text: str
    error: str

    def to_json(self) -> JSON:
        """Plain JSON."""
        return {"text": self.text, "error": self.error}


@dataclass(frozen=True, slots=True)
class Structured(Generic[Value]):
    """The value, or None when every attempt was rejected; ``attempts`` in order, for the caller to write down."""

    value: Value | None
    attempts: tuple[Attempt, ...]

    @property
    def error(self) -> str:
        """What was wrong with the last attempt; empty when it was accepted."""
        return self.attempts[-1].error


async def structured(
    endpoint: Endpoint, messages: Sequence[Message], form: Form[Value], sampling: Sampling, *, num_repairs: int = 2
) -> Structured[Value]:
    """Ask for a value of ``form``; on a wrong answer say what is wrong and ask again, ``num_repairs`` times at most.

    Raises what ``Endpoint.complete`` raises; a wrong answer raises nothing.
    """
    dialogue, attempts = list(messages), list[Attempt]()
    for _ in range(num_repairs + 1):
        answer = await endpoint.complete(dialogue, [], sampling, response_format=form.response_format())
        try:
            value = _read(answer.content, form)
        except ValueError as error:
            attempts.append(Attempt(answer.content, _say(error)))
            dialogue = [*messages, Message("assistant", answer.content), Message("user", _complain(attempts[-1], form))]
        else:
            return Structured(value, (*attempts, Attempt(answer.content, "")))
    return Structured(None, tuple(attempts))


def _read(text: str, form: Form[Value]) -> Value:
    """Raises ValueError, saying what is wrong."""
    fenced = FENCED.match(text)  # endpoints that do not constrain their answers like to wrap them
    try:
        data = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    wrong = what_is_wrong(data, form.schema)
    if wrong:
        raise ValueError(wrong)
    return form.read(data)


def what_is_wrong(value: object, schema: Mapping[str, Any]) -> str:
    """The most telling way in which ``value`` breaks a JSON schema, with its place; empty when it breaks none."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    return "" if error is None else f"{error.json_path}: {error.message[:500]}"


def _say(error: ValueError) -> str:
    """One line of it."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the object'}: {e['msg']}" for e in error.errors())
    return str(error)


def _complain(attempt: Attempt, form: Form[Any]) -> str:
    schema = json.dumps(form.schema)
    return f"That was not accepted: {attempt.error}\nAnswer again, with JSON of this schema and nothing else:\n{schema}"
