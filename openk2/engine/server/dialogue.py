"""A client's messages as the model reads them: text joined, calls counted."""

from __future__ import annotations

from collections.abc import Sequence

from openk2.engine.server.errors import ApiError
from openk2.engine.server.requests import AssistantMessage, ChatMessage, Content, Tool, ToolMessage
from openk2.schema import Message, ToolCall, ToolSpec


def read_messages(given: Sequence[ChatMessage]) -> list[Message]:
    """The dialogue, every call under the id K2 knows it by: ``functions.NAME:IDX``, counted from its beginning.

    Clients may use ids of their own; results follow their calls. Raises ApiError for a result of no call.
    """
    messages: list[Message] = []
    ids: dict[str, str] = {}
    num_calls = 0
    for number, message in enumerate(given):
        text = _text(message.content)
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in ids:
                where = f"messages.{number}.tool_call_id"
                raise ApiError(400, f"{where}: no call before it has the id {message.tool_call_id!r}", param=where)
            messages.append(Message("tool", text, tool_call_id=ids[message.tool_call_id]))
            continue
        role = "system" if message.role == "developer" else message.role
        messages.append(Message(role, text, name=message.name))
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls or ():
                ids[call.id] = call_id(call.function.name, num_calls)
                messages[-1].tool_calls.append(ToolCall(ids[call.id], call.function.name, call.function.arguments))
                num_calls += 1
    return messages


def call_id(name: str, index: int) -> str:
    """Counted by us over the whole dialogue, whatever number the model or the client wrote: ids must be unique."""
    return f"functions.{name}:{index}"


def read_tools(given: Sequence[Tool]) -> list[ToolSpec]:
    """The tools as the model sees them. Raises ApiError for a name given twice."""
    names = [tool.function.name for tool in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ApiError(400, f"tools: {twice} is given twice", param="tools")
    return [
        ToolSpec(tool.function.name, tool.function.description or "", tool.function.parameters or {}) for tool in given
    ]


def _text(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)
