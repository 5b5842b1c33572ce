"""Run a program on cases in a box: what comes out is compared out here, so that no program can forge a verdict.

Only inputs enter the box. A program that takes over everything inside can still do no more than name values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openk2.sandbox import inside
from openk2.sandbox.inside import pack, unpack
from openk2.sandbox.once import Result
from openk2.sandbox.sandbox import Sandbox

Ending = Literal["value", "crashed", "timed_out", "out_of_memory", "too_much_output"]
_BY_LIMIT: dict[str, Ending] = {"timeout": "timed_out", "memory": "out_of_memory", "output": "too_much_output"}
_INSIDE = Path(inside.__file__).read_text()


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one case: the value, or how it failed. A case never reached fails as the whole run did."""

    ending: Ending
    value: Any = None


async def call(box: Sandbox, source: str, function: str, cases: Sequence[Sequence[Any]]) -> list[Ran]:
    """A function of a program on each list of arguments, plain values all, in a fresh process each.

    Raises SandboxError where no box can be made.
    """
    return await _run(box, source, function, [pack(list(arguments)) for arguments in cases])


async def talk(box: Sandbox, source: str, cases: Sequence[str]) -> list[Ran]:
    """A program on each text as its stdin; values are what it wrote to stdout. Raises SandboxError where no box can be made."""
    return await _run(box, source, None, list(cases))


async def _run(box: Sandbox, source: str, function: str | None, cases: list[Any]) -> list[Ran]:
    work = json.dumps({"source": source, "function": function, "cases": cases}).encode()
    result = await box.run(["python3", "-I", "-c", _INSIDE], work)
    lines = result.stdout.split(b"\n")[:-1]
    said = [_read(line, whole=function is None) for line in lines[: len(cases)]]
    return said + [Ran(_ending(result))] * (len(cases) - len(said))


def _ending(result: Result) -> Ending:
    return _BY_LIMIT.get(result.outcome, "crashed")


def _read(line: bytes, *, whole: bool) -> Ran:
    """One line from inside: whoever wrote it, it names a value or it does not."""
    try:
        status, text = json.loads(line)
        if status == 0 and isinstance(text, str):
            return Ran("value", text if whole else unpack(json.loads(text)))
        return Ran("out_of_memory" if status == 2 else "crashed")
    except (ValueError, TypeError, RecursionError):
        return Ran("crashed")
