"""One trajectory as it stands on disk: what a record must hold, and the one line that says where it does not."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openk2.schema import JSON, Role


class _Part(BaseModel):
    """A key that nobody here knows is kept: other tools may need it."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Function(_Part):
    """What a call says. ``arguments`` is JSON text, as OpenAI has it."""

    name: str
    arguments: str


class ToolCall(_Part):
    """A call as an assistant wrote it."""

    id: str
    function: Function


class Message(_Part):
    """One turn in OpenAI's shape."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None


class ToolFunction(_Part):
    """A tool as a model sees it."""

    name: str
    description: str = ""


class Tool(_Part):
    """A tool in OpenAI's shape."""

    function: ToolFunction


class Item(_Part):
    """One demand of a rubric."""

    name: str
    check: str = ""
    spec: JSON = {}
    weight: float = 1.0


class Rubric(_Part):
    """What success means."""

    items: tuple[Item, ...] = ()


class Score(_Part):
    """The verdict, and one for each item of the rubric."""

    total: float = Field(ge=0, le=1)
    parts: dict[str, float] = {}


class Change(_Part):
    """One field of one record that a call changed; ``before`` is None where it was created."""

    entity: str
    key: str
    field: str | None = None  # None: the whole record came or went
    app: str | None = None
    before: Any = None
    after: Any = None


class Called(_Part):
    """A call as it was executed. ``fault`` names an injected failure; ``by`` says whether agent or user made it."""

    name: str
    arguments: Any = None
    result: Any = None
    fault: str | None = None
    changes: tuple[Change, ...] = ()
    by: str = "agent"


class Trajectory(_Part):
    """One record of a trajectory file. ``stage`` and ``reason`` say why a reject was turned away."""

    id: str
    split: str = ""
    kind: str = ""
    tags: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    rubric: Rubric | None = None
    score: Score | None = None
    seed: int | None = None
    agent: JSON | None = None
    user: JSON | None = None
    calls: tuple[Called, ...] = ()
    state: JSON | None = None
    provenance: JSON | None = None
    stage: str | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Trajectory:
        if not self.id or not self.id.isprintable():
            raise ValueError(f"an id is printable text on one line, not {self.id!a}")
        if not self.messages and self.stage is None:
            raise ValueError("there are no messages, and no stage that says why")
        return self

    @property
    def num_calls(self) -> int:
        """Calls that the assistant made, executed or not."""
        return sum(len(message.tool_calls or ()) for message in self.messages)

    @property
    def called(self) -> frozenset[str]:
        """Names of the tools it called."""
        return frozenset(call.function.name for message in self.messages for call in message.tool_calls or ())

    @property
    def outcome(self) -> str:
        """``passed``, ``failed``, ``rejected`` (it has a stage) or ``not judged``."""
        if self.stage is not None:
            return "rejected"
        if self.score is None:
            return "not judged"
        return "passed" if self.score.total >= 1 else "failed"

    @property
    def request(self) -> str:
        """The user's first words."""
        return next((message.content or "" for message in self.messages if message.role == "user"), "")

    def to_json(self) -> JSON:
        """The record as it was read: no key is added, none is lost."""
        return self.model_dump(mode="json", exclude_unset=True)


def parse(text: bytes | str, where: str) -> Trajectory:
    """A line of a file. Raises ValueError, opening with ``where``, that names the field and what is wrong with it."""
    try:
        data = _decode(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
    return check(data, where)


def check(data: Any, where: str) -> Trajectory:
    """The same for a value that is parsed already."""
    if not isinstance(data, dict):
        raise ValueError(f"{where}: a trajectory is a JSON object, this is a {type(data).__name__}")
    try:
        return Trajectory.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {field + ': ' if field else ''}{first['msg']}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_decode = json.JSONDecoder(parse_constant=_refuse).decode
