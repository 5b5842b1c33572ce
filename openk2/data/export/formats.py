"""A conversation in other libraries' words, and back. Pure functions over JSON.

Ours is ``{"messages", "tools"}`` in OpenAI's shape with ``functions.NAME:INDEX`` as the ids of calls. What a format
has no words for raises UnfitError with the reason, so that nothing is lost without being counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from openk2.schema import JSON

compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class UnfitError(ValueError):
    """A conversation that a format cannot hold."""


# ---------------------------------------------------------------------------------------------
# OpenAI: fine-tuning files
# ---------------------------------------------------------------------------------------------


def to_openai(conversation: Mapping[str, Any]) -> JSON:
    """OpenAI's fine-tuning format: ours without the keys that are not theirs."""
    return {"messages": [_openai_message(m) for m in conversation["messages"]], "tools": conversation["tools"]}


def from_openai(row: Mapping[str, Any]) -> JSON:
    """What `to_openai` wrote; a tool's message gets back the name of the call it answers."""
    return {"messages": _named(row["messages"]), "tools": row["tools"]}


def _openai_message(message: JSON) -> JSON:
    _refuse_malformed(message)
    return {key: value for key, value in message.items() if key in ("role", "content", "tool_calls", "tool_call_id")}


def _named(messages: list[JSON]) -> list[JSON]:
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls", ())}
    return [
        {**message, "name": names[message["tool_call_id"]]} if message["role"] == "tool" else message
        for message in messages
    ]


# ---------------------------------------------------------------------------------------------
# TRL: conversational language modelling with a ``tools`` column
# ---------------------------------------------------------------------------------------------


def to_trl(conversation: Mapping[str, Any]) -> JSON:
    """TRL's format: arguments are objects, as chat templates write them out themselves."""
    return {"messages": [_trl_message(m) for m in conversation["messages"]], "tools": conversation["tools"]}


def from_trl(row: Mapping[str, Any]) -> JSON:
    """What `to_trl` wrote; arguments come back as compact JSON."""
    return {"messages": [_with_arguments(m, compact) for m in row["messages"]], "tools": row["tools"]}


def _trl_message(message: JSON) -> JSON:
    _refuse_malformed(message)
    return _with_arguments(message, _parsed)


def _with_arguments(message: JSON, change: Any) -> JSON:
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": change(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


# ---------------------------------------------------------------------------------------------
# LLaMA-Factory: ShareGPT with function calls
# ---------------------------------------------------------------------------------------------

INFO: JSON = {"formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system", "tools": "tools"}}
"""A dataset's entry in ``dataset_info.json``, but for its ``file_name``."""


def to_llamafactory(conversation: Mapping[str, Any]) -> JSON:
    """ShareGPT turns. Several calls of a message are a JSON list, and so are their results.

    Ids of calls are left out. The format wants turns of the two sides to alternate, the model's to be the last, and
    has no place for words beside a call.
    """
    messages = list(conversation["messages"])
    system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
    turns = []
    for is_tool, group in groupby(messages, key=lambda message: message["role"] == "tool"):
        if is_tool:
            results = [message["content"] for message in group]
            turns.append({"from": "observation", "value": results[0] if len(results) == 1 else compact(results)})
        else:
            turns += [_sharegpt_turn(message) for message in group]
    for index, turn in enumerate(turns):
        if (turn["from"] in ("human", "observation")) != (index % 2 == 0):
            raise UnfitError("turns of the two sides do not alternate")
    if len(turns) % 2:
        raise UnfitError("the last turn is not the model's")
    return {
        "conversations": turns,
        "system": system,
        "tools": compact([tool["function"] for tool in conversation["tools"]]),
    }


def from_llamafactory(row: Mapping[str, Any]) -> JSON:
    """What `to_llamafactory` wrote, with calls numbered through."""
    messages: list[JSON] = [{"role": "system", "content": row["system"]}] if row["system"] else []
    calls: list[JSON] = []
    num_calls = 0
    for turn in row["conversations"]:
        match turn["from"]:
            case "function_call":
                said = json.loads(turn["value"])
                said = said if isinstance(said, list) else [said]
                calls = [_call(one, num_calls + i) for i, one in enumerate(said)]
                num_calls += len(calls)
                messages.append({"role": "assistant", "content": "", "tool_calls": calls})
            case "observation":
                results = [turn["value"]] if len(calls) == 1 else json.loads(turn["value"])
                messages += [
                    {"role": "tool", "content": result, "tool_call_id": call["id"], "name": call["function"]["name"]}
                    for call, result in zip(calls, results, strict=True)
                ]
            case side:
                messages.append({"role": "user" if side == "human" else "assistant", "content": turn["value"]})
    tools = [{"type": "function", "function": function} for function in json.loads(row["tools"])]
    return {"messages": messages, "tools": tools}


def _sharegpt_turn(message: JSON) -> JSON:
    calls = message.get("tool_calls")
    if message["role"] == "system":
        raise UnfitError("a system message stands after the first turn")
    if not calls:
        return {"from": "human" if message["role"] == "user" else "gpt", "value": message["content"]}
    if message["content"]:
        raise UnfitError("a message has words beside its call")
    _refuse_malformed(message)
    said = [{"name": c["function"]["name"], "arguments": _parsed(c["function"]["arguments"])} for c in calls]
    return {"from": "function_call", "value": compact(said[0] if len(said) == 1 else said)}


def _call(said: JSON, index: int) -> JSON:
    function = {"name": said["name"], "arguments": compact(said["arguments"])}
    return {"id": f"functions.{said['name']}:{index}", "type": "function", "function": function}


# ---------------------------------------------------------------------------------------------
# What no format holds
# ---------------------------------------------------------------------------------------------


def _refuse_malformed(message: JSON) -> None:
    if any("error" in call for call in message.get("tool_calls", ())):
        raise UnfitError("a call is malformed")


def _parsed(arguments: str) -> JSON:
    try:
        parsed = json.loads(arguments)
    except ValueError:
        raise UnfitError("a call's arguments are not JSON") from None
    if not isinstance(parsed, dict):
        raise UnfitError("a call's arguments are no JSON object")
    return parsed
