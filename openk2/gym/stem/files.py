"""Problems from the user's own JSONL files: GSM8K's form, or any with a question and an answer in a row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openk2.gym.single_turn import split_of
from openk2.gym.stem.forms import Form
from openk2.gym.stem.tidy import tidy
from openk2.gym.stem.wanted import Wanted
from openk2.schema import Task


def read(files: Sequence[Path | str]) -> list[Task]:
    """All problems of the files, in order, each in the split that its question's hash says; one asked twice counts once.

    A row has "question" or "problem", and "answer": the answer itself, or a solution that ends in "#### 42". Raises ValueError naming
    file and line for a row without them, one whose answer cannot be judged, and one that gives a known question another answer.
    """
    found: dict[str, Task] = {}
    for file in map(Path, files):
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            try:
                task = _task(json.loads(line), file.stem)
            except ValueError as error:  # JSON's own errors are of this kind too
                raise ValueError(f"{file}:{number}: {error}") from error
            known = found.setdefault(task.id, task)
            if known.payload["answer"] != task.payload["answer"]:
                raise ValueError(
                    f"{file}:{number}: the same question had the answer {known.payload['answer']!r} before"
                )
    return list(found.values())


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text") from error


def _task(row: Any, kind: str) -> Task:
    if not isinstance(row, dict):
        raise ValueError('want an object with "question" (or "problem") and "answer"')
    question, answer = row.get("question", row.get("problem")), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise ValueError('"question" (or "problem") must be text')
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError('"answer" must be text or a number')
    final = str(answer).rpartition("####")[2].strip()
    if re.fullmatch(r"\W*[A-Z]\W*", final):
        raise ValueError(f"the answer {final!r} is a choice, which a guess wins often: want a value")
    form = _form(final)
    names = (
        ("x", *sorted(set(re.findall(r"(?<![A-Za-z\\])[b-zB-Z](?![A-Za-z])", question)) - {"x"}))
        if form == "interval"
        else ()
    )
    payload = {
        "question": question, "answer": final, "options": [], "form": form, "unit": None, "names": list(names), "tolerance": None,
        "percent": False,
    }  # fmt: skip
    Wanted.of(payload).gold()
    key = " ".join(question.casefold().split())
    digest = hashlib.blake2b(question.encode(), digest_size=8).hexdigest()
    return Task(f"stem-file-{digest}", "stem", kind, split_of(key), payload, tags=("file", kind))


def _form(answer: str) -> Form:
    """(2, 5) is a tuple, [2, 5) or one with an infinite end an interval, {2, 5} a set, all else a value."""
    text = tidy(answer)
    if text.startswith("{") and text.endswith("}"):
        return "set"
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and ("," in text or " U " in text):
        return "tuple" if text[0] == "(" and text[-1] == ")" and "inf" not in text else "interval"
    return "value"
