"""ACEBench in English: the categories of one next turn (normal and special).

Normal items want calls: in any order, required arguments there, none that the answer lacks; texts must hold the
answer's, compared without case, blanks and light punctuation. Numbers and truth values are compared too, which the
benchmark's own checker leaves out. Special items want words: that a parameter is missing, that a value is wrong, that
no tool can help; the system message says in which form, as the benchmark's does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openk2.schema import JSON, Message, Role, Task, ToolSpec
from openk2.worlds.neighbours.calls import Wanted, answer, call_task
from openk2.worlds.neighbours.declared import tool_name, tools
from openk2.worlds.neighbours.mapped import Mapped, Unmappable, map_items, read_lines
from openk2.worlds.neighbours.patterns import Pattern

MISSING = "Missing necessary parameters"
INCORRECT = "There is incorrect value"
LIMITS = "the limitations of the function"

CALL = """Call the functions that answer the user's last request; make no call that was not asked for.
A parameter that is not required is given only when the user mentions it.
Where a parameter has no stated format, use the user's own words."""
SPECIAL = f"""{CALL}
When no call can be made, say so in exactly one of these forms, the first that applies:
1. A value the user gave does not fit its parameter: "{INCORRECT} (value) for the parameters (key) in the conversation history."
2. The user left out what a function requires: "{MISSING} (key1, key2, ...) for the api (ApiName)"
3. No function can do it: "Due to {LIMITS}, I cannot solve this problem.\""""

SPEAKER = re.compile(r"^(user|system): ?", re.MULTILINE)
ROLES: Mapping[str, Role] = {"user": "user", "system": "assistant"}  # the benchmark's assistant is called "system"
REPEATED = re.compile(r"_\d+$")


def read_acebench(folder: Path) -> Mapped:
    """The items of every ``data_CATEGORY.json`` of the folder, with the answers of its ``possible_answer``.

    Raises FileNotFoundError for a folder without any, ValueError for a file that is none of JSON lines.
    """
    paths = sorted(folder.glob("data_*.json"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no data_CATEGORY.json: give the folder of ACEBench's English data")
    return sum((_category(path) for path in paths), Mapped((), ()))


def _category(path: Path) -> Mapped:
    category = path.stem.removeprefix("data_")
    truths = {item["id"]: item["ground_truth"] for item in read_lines(path.parent / "possible_answer" / path.name)}
    return map_items(category, read_lines(path), lambda item: _task(item, category, truths))


def _task(item: JSON, category: str, truths: Mapping[str, Any]) -> Task:
    if category.startswith("agent_"):
        raise Unmappable("plays in simulated apps whose records and code are not in the data")
    if item["id"] not in truths:
        raise Unmappable("has no answer in possible_answer")
    declared = tools(item["function"])
    answers = _answers(truths[item["id"]], category, declared)
    return call_task(f"acebench-{item['id']}", "acebench", category, _messages(item, category), declared, answers)


def _messages(item: JSON, category: str) -> list[Message]:
    """The system message, with the day and the user's profile where there are any, then the dialogue so far."""
    special = category.startswith("special_")
    about = [SPECIAL if special else CALL, item.get("time", ""), item.get("profile", "")]
    return [Message("system", "\n\n".join(text for text in about if text)), *_dialogue(item["question"])]


def _dialogue(text: str) -> list[Message]:
    """The turns of "user: …" and "system: …". What one side says in several lines is one message."""
    before, *pieces = SPEAKER.split(text)
    if before.strip() or not pieces:
        raise Unmappable("the question is no dialogue of user and system")
    messages: list[Message] = []
    for speaker, said in zip(pieces[::2], pieces[1::2], strict=True):
        role = ROLES[speaker]
        if messages and messages[-1].role == role:
            messages[-1].content += "\n" + said.strip()
        else:
            messages.append(Message(role, said.strip()))
    if messages[-1].role != "user":
        raise Unmappable("the dialogue does not end with the user")
    return messages


def _answers(truth: Any, category: str, declared: Sequence[ToolSpec]) -> list[JSON]:
    if category == "special_irrelevant":
        return [answer(says=[LIMITS])]
    if category == "special_incomplete":
        return [
            answer(
                says=[MISSING, *(text for name, keys in truth.items() for text in (tool_name(name), *_stripped(keys)))]
            )
        ]
    if category == "special_error_param":
        return [answer(says=[INCORRECT, *(value for values in truth.values() for value in _stripped(values))])]
    alternatives = truth if isinstance(truth, list) else [truth]
    return [answer([_wanted(name, each[name], declared) for name in each]) for each in alternatives]


def _stripped(texts: Any) -> list[str]:
    return [text.strip() for text in texts]


def _wanted(written: str, arguments: Mapping[str, Any], declared: Sequence[ToolSpec]) -> Wanted:
    """A call of the answer. A function that is called several times is numbered there: ``name_1``, ``name_2``."""
    by_name = {tool.name: tool for tool in declared}
    name = tool_name(written)
    tool = by_name.get(name) or by_name.get(REPEATED.sub("", name))
    if tool is None:
        raise Unmappable("the answer calls a tool that is not declared")
    required = set(tool.parameters.get("required", ()))
    if not arguments.keys() <= tool.parameters["properties"].keys():
        raise Unmappable("the answer has an argument that is not declared")
    if not required <= arguments.keys():
        raise Unmappable("the answer lacks a required argument")
    fields = {key: _pattern(value) for key, value in arguments.items()}
    return Wanted(tool.name, {"fields": fields, "optional": [key for key in arguments if key not in required]})


def _pattern(value: Any) -> Pattern:
    if isinstance(value, dict):
        return {"fields": {key: _pattern(each) for key, each in value.items()}, "optional": []}
    if isinstance(value, list):
        return {"items": [{"text": each} if isinstance(each, str) else _pattern(each) for each in value]}
    return {"holds": value} if isinstance(value, str) else {"value": value}
