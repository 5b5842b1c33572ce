"""What travels between a service and its clients, as JSON. Raises WrongTypeError for what an environment gave in its place."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from openk2.schema import JSON, Message, Observation, Score, ToolSpec, Trace

T = TypeVar("T")


class WrongTypeError(TypeError):
    """An environment gave something else than the protocol says."""


def encode(body: JSON) -> bytes:
    """A body. Texts with lone surrogates, which a model may write, pass: all is ASCII."""
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongTypeError(f"gave what JSON cannot hold: {error}") from error


def observation_to_json(given: object, before: Sequence[ToolSpec] | None) -> JSON:
    """An observation; ``tools`` is null where they are still those shown ``before``."""
    observation = _checked(given, Observation)
    messages = [_checked(message, Message).to_json() for message in observation.messages]
    tools = [_checked(tool, ToolSpec) for tool in observation.tools]
    return {
        "messages": messages,
        "tools": None if tools == before else [tool.to_json() for tool in tools],
        "terminated": observation.terminated,
        "truncated": observation.truncated,
        "info": observation.info,
    }


def observation_from_json(data: Mapping[str, Any], before: Sequence[ToolSpec]) -> Observation:
    """Read what ``observation_to_json`` wrote."""
    messages = [Message.from_json(message) for message in data["messages"]]
    tools = list(before) if data["tools"] is None else [ToolSpec.from_json(tool) for tool in data["tools"]]
    return Observation(messages, tools, data["terminated"], data["truncated"], data["info"])


def score_to_json(given: object) -> JSON:
    """A verdict."""
    score = _checked(given, Score)
    return {"total": score.total, "parts": score.parts}


def score_from_json(data: Mapping[str, Any]) -> Score:
    """Read what ``score_to_json`` wrote."""
    return Score(data["total"], data["parts"])


def state_to_json(given: object) -> JSON:
    """A snapshot."""
    return {"state": base64.b64encode(_checked(given, bytes)).decode()}


def state_from_json(data: Mapping[str, Any]) -> bytes:
    """Read what ``state_to_json`` wrote."""
    return base64.b64decode(data["state"], validate=True)


def trace_to_json(trace: Trace) -> JSON:
    """What an environment judges: messages, tools and notes. The tokens stay at home."""
    return replace(trace, segments=[]).to_json()


def _checked(given: object, wanted: type[T]) -> T:
    if not isinstance(given, wanted):
        raise WrongTypeError(f"gave a {type(given).__name__} where a {wanted.__name__} belongs")
    return given
