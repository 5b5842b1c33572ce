"""A trace as turns, in plain JSON: what a page shows of it."""

from __future__ import annotations

from openk2.schema import JSON, Message, ToolCall, Trace
from openk2.view.json_text import pretty_json

MAX_TEXT = 4000
"""Characters of one message that a report shows."""


def conversation(trace: Trace, most: int | None = None) -> JSON:
    """System messages, tools, turns and verdict. Texts longer than ``most`` characters are clipped."""
    return {
        "system": [clip(message.content, most) for message in trace.messages if message.role == "system"],
        "tools": [tool.to_json()["function"] for tool in trace.tools],
        "turns": [_turn(message, most) for message in trace.messages if message.role != "system"],
        "score": trace.score.total if trace.score else None,
        "parts": trace.score.parts if trace.score else {},
        "stop_reason": trace.stop_reason or "none",
        "error": trace.info.get("error"),
        "num_sampled": trace.num_sampled,
    }


def clip(text: str, most: int | None) -> str:
    """The first ``most`` characters, saying how many are left out; None leaves none out."""
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]}\n… {len(text) - most} more characters"


def _turn(message: Message, most: int | None) -> JSON:
    content = _pretty(message.content) if message.role == "tool" else message.content
    calls = [_call(call, most) for call in message.tool_calls]
    return {"role": message.role, "content": clip(content, most), "calls": calls}


def _call(call: ToolCall, most: int | None) -> JSON:
    return {"name": call.name, "arguments": clip(_pretty(call.arguments), most), "error": call.error}


def _pretty(text: str) -> str:
    """JSON laid out; what nests too deep for that as it is."""
    try:
        return pretty_json(text)
    except RecursionError:
        return text
