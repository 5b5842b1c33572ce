"""The prompts of IFEval (Zhou et al. 2023) as tasks, and its four accuracies. The file is the reader's own; none is shipped.

The checks are our own. Where IFEval asks langdetect and nltk, ``checks.language`` and ``reading.sentences`` stand in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.gym.instructions.registry import constraint
from openk2.schema import JSON, Task
from openk2.stats import Estimate, wilson

_ANSWERS = ["My answer is yes.", "My answer is no.", "My answer is maybe."]

_SPECS: dict[str, Callable[[Mapping[str, Any]], JSON]] = {
    "keywords:existence": lambda k: {"check": "keywords", "words": k["keywords"], "whole": False},
    "keywords:forbidden_words": lambda k: {"check": "forbidden_words", "words": k["forbidden_words"]},
    "keywords:frequency": lambda k: {
        "check": "word_frequency", "word": k["keyword"], "relation": k["relation"], "number": k["frequency"], "whole": False
    },
    "keywords:letter_frequency": lambda k: {
        "check": "letter_frequency", "letter": k["letter"], "relation": k["let_relation"], "number": k["let_frequency"]
    },
    "language:response_language": lambda k: {"check": "language", "language": k["language"]},
    "length_constraints:number_words": lambda k: {
        "check": "num_words", "relation": k["relation"], "number": k["num_words"]
    },
    "length_constraints:number_sentences": lambda k: {
        "check": "num_sentences", "relation": k["relation"], "number": k["num_sentences"]
    },
    "length_constraints:number_paragraphs": lambda k: {"check": "divided_paragraphs", "number": k["num_paragraphs"]},
    "length_constraints:nth_paragraph_first_word": lambda k: {
        "check": "paragraph_begins", "number": k["num_paragraphs"], "nth": k["nth_paragraph"], "word": k["first_word"]
    },
    "detectable_content:number_placeholders": lambda k: {
        "check": "num_placeholders", "relation": "at least", "number": k["num_placeholders"]
    },
    "detectable_content:postscript": lambda k: {"check": "postscript", "marker": k["postscript_marker"]},
    "detectable_format:constrained_response": lambda k: {"check": "one_of", "options": _ANSWERS},
    "detectable_format:json_format": lambda k: {"check": "json_reply"},
    "detectable_format:multiple_sections": lambda k: {
        "check": "num_sections", "marker": k["section_spliter"], "relation": "at least", "number": k["num_sections"]
    },
    "detectable_format:number_bullet_lists": lambda k: {"check": "num_bullets", "number": k["num_bullets"]},
    "detectable_format:number_highlighted_sections": lambda k: {
        "check": "num_highlights", "relation": "at least", "number": k["num_highlights"]
    },
    "detectable_format:title": lambda k: {"check": "title"},
    "change_case:capital_word_frequency": lambda k: {
        "check": "capital_words", "relation": k["capital_relation"], "number": k["capital_frequency"]
    },
    "change_case:english_capital": lambda k: {"check": "uppercase_english"},
    "change_case:english_lowercase": lambda k: {"check": "lowercase_english"},
    "combination:repeat_prompt": lambda k: {"check": "repeats_first", "text": k["prompt_to_repeat"]},
    "combination:two_responses": lambda k: {"check": "two_responses"},
    "punctuation:no_comma": lambda k: {"check": "forbidden_characters", "characters": ",，、،"},
    "startend:end_checker": lambda k: {"check": "ends_with", "phrase": k["end_phrase"]},
    "startend:quotation": lambda k: {"check": "wrapped", "opening": '"', "closing": '"'},
}  # fmt: skip
INSTRUCTIONS = tuple(_SPECS)
"""The 25 instruction ids that IFEval knows."""


def ifeval_tasks(path: Path) -> tuple[Task, ...]:
    """The prompts of ``input_data.jsonl`` as tasks of the split "ifeval", for ``InstructionsEnv``.

    Raises ValueError for a line that is no such prompt, naming file, line and what is wrong.
    """
    tasks = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            tasks.append(_task(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            wrong = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}:{number}: {wrong}") from error
    return tuple(tasks)


def _task(row: Mapping[str, Any]) -> Task:
    ids, kwargs = row["instruction_id_list"], row["kwargs"]
    if unknown := [name for name in ids if name not in _SPECS]:
        raise ValueError(f"no instruction called {unknown[0]!r}")
    specs = [_SPECS[name](given) for name, given in zip(ids, kwargs, strict=True)]
    for spec in specs:
        constraint(spec)
    return Task(
        f"ifeval-{row['key']}",
        "instructions",
        "ifeval",
        "ifeval",
        {"question": row["prompt"], "constraints": specs},
        tags=tuple(ids),
    )


@dataclass(frozen=True, slots=True)
class Accuracies:
    """IFEval's figures: the share of prompts all of whose instructions are followed, and of instructions, strict and loose."""

    prompts_strict: Estimate
    prompts_loose: Estimate
    instructions_strict: Estimate
    instructions_loose: Estimate


def accuracies(tasks: Sequence[Task], replies: Sequence[str]) -> Accuracies:
    """Judge a reply to each task. Raises ValueError unless there are as many replies as tasks, and some."""
    if not tasks or len(tasks) != len(replies):
        raise ValueError(f"{len(tasks)} tasks and {len(replies)} replies: one reply for each of some tasks")
    strict = [_followed(task, reply, [reply]) for task, reply in zip(tasks, replies, strict=True)]
    loose = [_followed(task, reply, readings(reply)) for task, reply in zip(tasks, replies, strict=True)]
    return Accuracies(
        _share([all(followed) for followed in strict]),
        _share([all(followed) for followed in loose]),
        _share([one for followed in strict for one in followed]),
        _share([one for followed in loose for one in followed]),
    )


def readings(reply: str) -> list[str]:
    """A reply as it is, without its first line, its last, or both, and all of these without stars."""
    rows = reply.split("\n")
    cut = [reply, *("\n".join(part).strip() for part in (rows[1:], rows[:-1], rows[1:-1]))]
    return cut + [text.replace("*", "") for text in cut]


def _followed(task: Task, reply: str, readings: Sequence[str]) -> list[bool]:
    constraints = [constraint(spec) for spec in task.payload["constraints"]]
    return [any(one.holds(text) for text in readings) for one in constraints]


def _share(held: Sequence[bool]) -> Estimate:
    return wilson(sum(held), len(held))
