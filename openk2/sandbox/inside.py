"""What runs inside a box for hidden cases: one process for each, its value or what went wrong told in plain JSON.

This file's text is given to the box's interpreter, so it uses the standard library alone. ``pack`` and ``unpack`` serve out here too:
they carry plain values (with tuples, sets and any dictionary keys) through JSON. It holds no secret, and nothing it
says is believed but as a value to compare: the program it runs may do with it as it likes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any


def pack(value: Any) -> Any:
    """Plain JSON for a plain value. Raises TypeError for anything else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    for name, kind in (("tuple", tuple), ("set", (set, frozenset))):
        if isinstance(value, kind):
            return {name: [pack(item) for item in value]}
    raise TypeError(f"a {type(value).__name__} is no plain value")


def unpack(data: Any) -> Any:
    """What ``pack`` was given. Raises ValueError, TypeError or RecursionError for what it cannot have made."""
    if isinstance(data, list):
        return [unpack(item) for item in data]
    if not isinstance(data, dict):
        return data
    [(name, items)] = data.items()
    match name:
        case "dict":
            return {unpack(key): unpack(item) for key, item in items}
        case "tuple":
            return tuple(unpack(item) for item in items)
        case "set":
            return {unpack(item) for item in items}
    raise ValueError(f"{name!r} is no kind of value")


def main() -> None:
    """Read source, function (None for a program that reads stdin) and cases; write a line of JSON for each case."""
    work = json.load(sys.stdin)
    for case in work["cases"]:
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if child == 0:
                _serve(work["source"], work["function"], case, said.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            text = said.read().decode(errors="replace")
        print(json.dumps([status, text]), flush=True)


def _serve(source: str, function: str | None, case: Any, out: int) -> None:
    """The one process of a case. What it says lands in the file ``out``; ends with 0, 1 for an error, 2 for no memory."""
    code = 0
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        os.dup2(null if function else out, 1)
        with tempfile.TemporaryFile() as stdin:
            stdin.write(b"" if function else case.encode())
            stdin.seek(0)
            os.dup2(stdin.fileno(), 0)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.path.insert(0, os.getcwd())
        sys.argv = ["program.py"]
        space: dict[str, Any] = {"__name__": "program" if function else "__main__"}
        exec(compile(source, "program.py", "exec"), space)
        if function:
            os.write(out, json.dumps(pack(space[function](*unpack(case)))).encode())
    except SystemExit as end:
        code = int(bool(function or end.code))
    except MemoryError:
        code = 2
    except BaseException:  # noqa: BLE001 - whatever a program raises, it has failed
        code = 1
    try:
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001
        code = 1
    os._exit(code)


if __name__ == "__main__":
    main()
