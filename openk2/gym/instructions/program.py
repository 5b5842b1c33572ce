"""Verifiers that a model wrote: Python that defines ``check(reply)``, run in the sandbox and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence

from openk2.sandbox.config import Limits
from openk2.sandbox.once import Runner
from openk2.sandbox.sandbox import Sandbox

LIMITS = Limits(cpu_s=1.0, wall_s=4.0, processes=8)
MOST_CHARACTERS = 20_000  # of a program
# Verdicts leave by a file, so that a program may print; one that writes the file itself only gives other verdicts.
_RUNNER = """
import json
replies = json.load(open("replies.json"))
space = {"__name__": "verifier"}
exec(compile(open("verifier.py").read(), "verifier.py", "exec"), space)
verdicts = [space["check"](reply) for reply in replies]
json.dump([verdict if isinstance(verdict, bool) else None for verdict in verdicts], open("verdicts.json", "w"))
"""


class BrokenProgramError(Exception):
    """A program that gave no verdicts: it failed, reached a limit, or said something that is neither True nor False."""


async def verdicts(program: str, replies: Sequence[str], pool: Runner | None = None) -> list[bool]:
    """What the program says of each reply, within ``LIMITS``, or those of the ``pool``.

    Raises BrokenProgramError; SandboxError where there is no sandbox.
    """
    if len(program) > MOST_CHARACTERS:
        raise BrokenProgramError(f"longer than {MOST_CHARACTERS} characters")
    box = Sandbox(LIMITS, pool=pool)
    box.write("verifier.py", program.encode(errors="replace"))
    box.write("replies.json", json.dumps(list(replies)).encode())
    box.write("run.py", _RUNNER.encode())
    result = await box.run(["python3", "run.py"])
    if result.outcome != "ok":
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise BrokenProgramError(f"{result.outcome}: {said[-1][:200]}" if said else result.outcome)
    try:
        found = json.loads(box.read("verdicts.json"))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise BrokenProgramError("left no verdicts") from error
    if not isinstance(found, list) or len(found) != len(replies) or not all(type(one) is bool for one in found):
        raise BrokenProgramError("a verdict is neither True nor False")
    return found
