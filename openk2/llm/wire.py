"""The shared words to a chat-completions body, and an answer's body back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openk2.llm.config import EndpointConfig
from openk2.schema import JSON, CallError, Message, Sampling, ToolCall, ToolSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and the tokens it took."""

    message: Message
    prompt_tokens: int
    completion_tokens: int


def request_body(
    config: EndpointConfig, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
) -> JSON:
    """The body to send. What stands at the value that changes nothing is left out: not every server knows it."""
    body: JSON = {
        "model": config.model,
        "messages": [_said(message) for message in messages],
        "temperature": sampling.temperature,
        config.max_tokens_name: sampling.max_tokens,
    }
    if tools:
        body["tools"] = [tool.to_json() for tool in tools]
    if sampling.top_p != 1.0:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body | config.extra


def _said(message: Message) -> JSON:
    """The OpenAI shape alone: strict servers refuse our ``error`` of a call and the ``name`` of a result."""
    out = message.to_json()
    for call in out.get("tool_calls", ()):
        call.pop("error", None)
    if message.role == "tool":
        out.pop("name", None)
    return out


def read_answer(body: object) -> Answer:
    """The first choice of an answer. Raises ValueError for what is no chat completion."""
    try:
        choice = body["choices"][0]  # type: ignore[index]  # whatever does not fit is caught below
        usage = body.get("usage") or {}  # type: ignore[attr-defined]
        message = _read_message(choice["message"], cut_short=choice.get("finish_reason") == "length")
        return Answer(message, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no chat completion: {type(error).__name__} {error} in {str(body)[:200]}") from error


def _read_message(data: Mapping[str, Any], *, cut_short: bool) -> Message:
    content = data.get("content") or ""
    if not isinstance(content, str):
        raise ValueError("the content is no text")
    content = _mended(content)
    written = data.get("tool_calls") or []
    calls = [
        _read_call(call, cut_short=cut_short and number == len(written)) for number, call in enumerate(written, start=1)
    ]
    return Message("assistant", content, calls)


def _read_call(data: Mapping[str, Any], *, cut_short: bool) -> ToolCall:
    """A call as written; malformed arguments stay, with their error."""
    name, arguments = data["function"]["name"], data["function"]["arguments"]
    if not (isinstance(data["id"], str) and isinstance(name, str) and isinstance(arguments, str)):
        raise ValueError("a tool call's id, name and arguments are texts")
    arguments = _mended(arguments)
    return ToolCall(_mended(data["id"]), _mended(name), arguments, _what_is_wrong(arguments, cut_short=cut_short))


def _mended(text: str) -> str:
    """Lone surrogates, which JSON can smuggle in and no file takes, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _what_is_wrong(arguments: str, *, cut_short: bool) -> CallError | None:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return CallError.TRUNCATED if cut_short else CallError.BAD_JSON
    return None if isinstance(value, dict) else CallError.NOT_AN_OBJECT
