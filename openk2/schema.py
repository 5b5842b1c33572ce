"""The shared words: what every room passes to every other.

Nothing here imports torch or any other room. Shapes on disk are the OpenAI chat-completions ones
for messages and tools (``arguments`` stays a JSON string), and JSON Lines for everything else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

JSON = dict[str, Any]
Experts = npt.NDArray[np.int16]  # [tokens, layers, experts of a token]
Role = Literal["system", "user", "assistant", "tool"]
Source = Literal["prompt", "sampled", "tool", "user"]
StopReason = Literal["done", "truncated", "token_budget", "turn_budget", "malformed", "aborted", "env_error"]


# ---------------------------------------------------------------------------------------------
# Messages and tools: the OpenAI chat-completions shapes
# ---------------------------------------------------------------------------------------------


class CallError(StrEnum):
    """Why a generated tool call could not be understood. The call stays visible as raw text."""

    BAD_ID = "bad_id"  # the id is not functions.NAME:IDX
    BAD_JSON = "bad_json"  # the arguments are not JSON
    NOT_AN_OBJECT = "not_an_object"  # the arguments are JSON, but no object
    TRUNCATED = "truncated"  # the call was never closed


@dataclass(slots=True)
class ToolCall:
    """One call. ``arguments`` is the text as written; ``error`` is set when it is malformed."""

    id: str
    name: str
    arguments: str
    error: CallError | None = None

    def to_json(self) -> JSON:
        """The OpenAI shape; a malformed call carries one more key, ``error``."""
        out: JSON = {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        if self.error is not None:
            out["error"] = self.error.value
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolCall:
        """Read the OpenAI shape. Raises KeyError for a missing field."""
        function = data["function"]
        error = data.get("error")
        return cls(data["id"], function["name"], function["arguments"], CallError(error) if error else None)

    def answered(self, result: str) -> Message:
        """The message that tells the model what came of this call."""
        return Message("tool", result, tool_call_id=self.id, name=self.name)


@dataclass(slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None

    def to_json(self) -> JSON:
        """The OpenAI shape, without empty fields."""
        out: JSON = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            out["name"] = self.name
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """Read the OpenAI shape; ``content: null`` reads as the empty text."""
        calls = [ToolCall.from_json(call) for call in data.get("tool_calls") or []]
        return cls(data["role"], data.get("content") or "", calls, data.get("tool_call_id"), data.get("name"))


@dataclass(slots=True, frozen=True)
class ToolSpec:
    """A tool as the model sees it: name, description, JSON schema of the parameters."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def to_json(self) -> JSON:
        """The OpenAI shape."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolSpec:
        """Read the OpenAI shape."""
        function = data["function"]
        return cls(function["name"], function.get("description", ""), function.get("parameters", {}))


# ---------------------------------------------------------------------------------------------
# Tasks, rubrics and scores
# ---------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class RubricItem:
    """One named demand on an episode.

    ``check`` says how it is verified: ``state`` (a predicate over the final state), ``call`` (a call
    that must have happened), ``forbid`` (a call that must not), ``fact`` (something the final answer
    must say), ``judged`` (a statement a judge decides). ``spec`` holds the check's own arguments.
    """

    name: str
    check: Literal["state", "call", "forbid", "fact", "judged"]
    spec: Mapping[str, Any]
    weight: float = 1.0


@dataclass(slots=True, frozen=True)
class Rubric:
    """What success means. An episode passes when every item holds."""

    items: tuple[RubricItem, ...]

    def to_json(self) -> JSON:
        """Plain JSON."""
        return {
            "items": [
                {"name": item.name, "check": item.check, "spec": dict(item.spec), "weight": item.weight}
                for item in self.items
            ]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rubric:
        """Read what ``to_json`` wrote."""
        return cls(tuple(RubricItem(**item) for item in data["items"]))


@dataclass(slots=True, frozen=True)
class Task:
    """One thing to do. ``payload`` belongs to the environment that made the task."""

    id: str
    family: str
    kind: str
    split: str
    payload: Mapping[str, Any]
    rubric: Rubric | None = None
    tags: tuple[str, ...] = ()
    difficulty: float | None = None

    def to_json(self) -> JSON:
        """Plain JSON."""
        out: JSON = {"id": self.id, "family": self.family, "kind": self.kind, "split": self.split}
        out["payload"] = dict(self.payload)
        if self.rubric is not None:
            out["rubric"] = self.rubric.to_json()
        out["tags"] = list(self.tags)
        out["difficulty"] = self.difficulty
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """Read what ``to_json`` wrote."""
        rubric = data.get("rubric")
        return cls(
            id=data["id"],
            family=data["family"],
            kind=data["kind"],
            split=data["split"],
            payload=data["payload"],
            rubric=Rubric.from_json(rubric) if rubric else None,
            tags=tuple(data.get("tags", ())),
            difficulty=data.get("difficulty"),
        )


@dataclass(slots=True)
class Score:
    """A verdict in [0, 1] and what it is made of."""

    total: float
    parts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 <= self.total <= 1.0:
            raise ValueError(f"a score lies in [0, 1], got {self.total}")

    @property
    def passed(self) -> bool:
        """True when nothing is missing."""
        return self.total >= 1.0


# ---------------------------------------------------------------------------------------------
# Traces: what an agent really did, token by token
# ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Segment:
    """A run of tokens from one source.

    ``logprobs`` are those the tokens were sampled with, at ``temperature``, under weights
    ``weight_version``; None for tokens nobody sampled. ``loss_mask`` marks tokens to learn from.
    ``experts`` optionally holds, for as many of its first tokens as were read, the expert ids of every layer (router
    replay): all tokens but the last of a trace.
    """

    source: Source
    token_ids: list[int]
    loss_mask: list[bool]
    logprobs: list[float] | None = None
    weight_version: int | None = None
    temperature: float | None = None
    experts: Experts | None = None

    def __post_init__(self) -> None:
        if len(self.loss_mask) != len(self.token_ids):
            raise ValueError(f"{len(self.token_ids)} tokens but a loss mask of {len(self.loss_mask)}")
        if self.logprobs is not None and len(self.logprobs) != len(self.token_ids):
            raise ValueError(f"{len(self.token_ids)} tokens but {len(self.logprobs)} logprobs")

    def to_json(self) -> JSON:
        """Plain JSON; ``experts`` as the bytes of an array, since they may be millions."""
        out: JSON = {
            "source": self.source,
            "token_ids": self.token_ids,
            "loss_mask": [int(kept) for kept in self.loss_mask],
        }
        out |= {"logprobs": self.logprobs, "weight_version": self.weight_version, "temperature": self.temperature}
        if self.experts is not None:
            raw = self.experts.astype("<i2").tobytes()
            out["experts"] = {"shape": self.experts.shape, "int16": base64.b64encode(raw).decode()}
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Segment:
        """Read what ``to_json`` wrote."""
        rest = dict(data)
        rest["loss_mask"] = [bool(kept) for kept in data["loss_mask"]]
        if (packed := data.get("experts")) is not None:
            raw = np.frombuffer(base64.b64decode(packed["int16"]), "<i2")
            rest["experts"] = raw.astype(np.int16).reshape(packed["shape"])
        return cls(**rest)


@dataclass(slots=True)
class Trace:
    """One episode. Tokens sampled are tokens trained on: ``segments`` is the truth, ``messages`` a view."""

    id: str
    task_id: str
    seed: int
    tokenizer_hash: str
    segments: list[Segment]
    messages: list[Message]
    tools: list[ToolSpec]
    stop_reason: StopReason | None = None
    score: Score | None = None
    versions: dict[str, str] = field(default_factory=dict)
    info: JSON = field(default_factory=dict)

    @property
    def token_ids(self) -> list[int]:
        """All tokens of the episode, in order."""
        return [token for segment in self.segments for token in segment.token_ids]

    @property
    def num_sampled(self) -> int:
        """How many tokens the policy produced."""
        return sum(len(segment.token_ids) for segment in self.segments if segment.source == "sampled")

    def to_json(self) -> JSON:
        """Plain JSON: the whole trace."""
        return {
            "id": self.id,
            "task_id": self.task_id,
            "seed": self.seed,
            "tokenizer_hash": self.tokenizer_hash,
            "segments": [segment.to_json() for segment in self.segments],
            "messages": [message.to_json() for message in self.messages],
            "tools": [tool.to_json() for tool in self.tools],
            "stop_reason": self.stop_reason,
            "score": None if self.score is None else asdict(self.score),
            "versions": self.versions,
            "info": self.info,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """Read what ``to_json`` wrote."""
        rest = dict(data)
        rest["segments"] = [Segment.from_json(segment) for segment in data["segments"]]
        rest["messages"] = [Message.from_json(message) for message in data["messages"]]
        rest["tools"] = [ToolSpec.from_json(tool) for tool in data["tools"]]
        rest["score"] = Score(**data["score"]) if data.get("score") else None
        return cls(**rest)


# ---------------------------------------------------------------------------------------------
# The protocols: models and environments
# ---------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Sampling:
    """How to draw tokens. ``temperature`` 0 is greedy; ``top_p`` 1 and ``top_k`` 0 mean no cut."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(slots=True)
class Sampled:
    """Tokens a policy drew, with the log-probability each was drawn with (after temperature).

    ``weight_version`` is that of the weights that drew the last of them, ``weight_versions`` those of each, where they
    were not all the same. ``experts``, on request: the choices for every token the policy read, prompt included; the last one
    drawn was not read.
    ``stop_text`` is the text of ``Sampling.stop`` that ended it, if one did.
    """

    token_ids: list[int]
    logprobs: list[float]
    stop_reason: Literal["stop", "length", "abort"]
    weight_version: int = 0
    experts: Experts | None = None
    stop_text: str | None = None
    weight_versions: list[int] | None = None


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a conversation."""

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """The next assistant message. Raises TimeoutError when no answer comes in time."""
        ...


@runtime_checkable
class Policy(ChatModel, Protocol):
    """A chat model that shows its tokens: what training needs."""

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Sampled:
        """Continue ``token_ids`` until a stop token, a stop text or ``max_tokens``."""
        ...


@dataclass(slots=True)
class Observation:
    """What an environment shows: the messages since the last action, and the tools at hand."""

    messages: list[Message]
    tools: list[ToolSpec]
    terminated: bool = False
    truncated: bool = False
    info: JSON = field(default_factory=dict)


@runtime_checkable
class Env(Protocol):
    """One episode at a time of some family of tasks. Reward comes from ``score`` alone."""

    @property
    def resumable(self) -> Literal["snapshot", "replay", "none"]:
        """How an unfinished episode can be taken up again."""
        ...

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, in a fixed order."""
        ...

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin an episode. The first observation holds system and user messages and the tools."""
        ...

    async def step(self, message: Message) -> Observation:
        """Act. The observation holds tool results or the user's next words."""
        ...

    async def score(self, trace: Trace) -> Score:
        """Judge the episode that has just been played."""
        ...

    async def close(self) -> None:
        """Free what the episode held."""
        ...

    def snapshot(self) -> bytes:
        """The whole episode state. Only where ``resumable`` is ``snapshot``."""
        ...

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot."""
        ...
