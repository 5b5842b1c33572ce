"""Harbor tasks in our sandbox: a shell to work with, and tests/test.sh that writes the reward.

The tests come from the folder and run in a fresh box over the agent's files, after what the agent left under /tests, /logs and
/solution is gone. A program of the agent that the tests themselves start shares that box with them, as it does in Harbor; so a reward
counts only if test.sh ended by itself and left nothing running.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from openk2.gym.adapters.config import HarborConfig
from openk2.gym.adapters.harbor_folder import HarborTask, RefusedError, Run, packed, read_task, tree
from openk2.gym.single_turn import split_of
from openk2.sandbox.config import Fittings, Limits
from openk2.sandbox.once import Result
from openk2.sandbox.sandbox import Sandbox
from openk2.schema import JSON, Message, Observation, Score, Task, ToolCall, ToolSpec, Trace

FAMILY = "harbor"
SPLITS = ("train", "heldout")
MOST_SHOWN = 10_000  # characters of a command's output
SHELL = ToolSpec(
    "shell",
    "Run a command with bash. Each starts anew in the working folder; files stay, except those in /tmp. There is no network.",
    {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
)
_KILLED, _LEFT = 97, 98
_KILLS = (_KILLED, *range(128, 256))
_JUDGE = f"""
cd /box/work && rm -rf tests logs solution && mkdir -p tests logs/verifier logs/agent logs/artifacts || exit 99
tar -xpf - -C /box && cd "$1" || exit 99
bash /tests/test.sh </dev/null >/logs/verifier/test-stdout.txt 2>&1
[ $? -lt 128 ] || exit {_KILLED}
for status in /proc/[0-9]*/status; do
  case $status in /proc/1/status|/proc/$$/status) ;; *) grep -qs '^State:.Z' $status || [ ! -e $status ] || exit {_LEFT} ;; esac
done
exit 0
"""


class HarborEnv:
    """One episode at a time of the tasks of a folder (an ``Env``). A message without calls ends it."""

    resumable: Literal["none"] = "none"

    def __init__(self, config: HarborConfig) -> None:
        """Raises ValueError where the folder holds no task."""
        self._config = config
        self._built: tuple[str, bytes] = ("", b"")  # the last task's box
        self._read: dict[str, HarborTask | RefusedError] = {}
        for file in sorted(config.folder.glob("*/task.toml")):
            try:
                self._read[file.parent.name] = read_task(file.parent)
            except RefusedError as refused:
                self._read[file.parent.name] = refused
        if not self._read:
            raise ValueError(f"{config.folder} holds no Harbor task: a task is a folder with task.toml in it")
        self._task: HarborTask | None = None
        self._box: Sandbox | None = None

    @property
    def refused(self) -> dict[str, str]:
        """The tasks left out, and why. What a Dockerfile's RUN needs is only found out by ``reset``."""
        return {name: str(found) for name, found in self._read.items() if isinstance(found, RefusedError)}

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of "train" or "heldout", by a hash of the instruction. Raises ValueError for another split."""
        if split not in SPLITS:
            raise ValueError(f'no split "{split}" in {FAMILY}: choose "train" or "heldout"')
        return [
            Task(f"{FAMILY}-{name}", FAMILY, "shell", split, {"folder": name}, tags=_tags(found))
            for name, found in self._read.items()
            if isinstance(found, HarborTask) and split_of(found.instruction) == split
        ]

    async def reset(self, task: Task, seed: int) -> Observation:
        """Build the box, unless the last episode had the same, and show the instruction; ``seed`` changes nothing.

        Raises ValueError for a task of another folder, RefusedError where its Dockerfile does not run here.
        """
        found = self._read.get(task.payload["folder"])
        if not isinstance(found, HarborTask):
            raise ValueError(f"{self._config.folder} has no task {task.payload['folder']} that runs here")
        if self._built[0] != found.name:
            self._built = found.name, await self._build(found)
        self._task, self._box = found, self._sandbox(found, self._config.shell_s, self._built[1])
        return Observation([Message("user", found.instruction)], [SHELL])

    async def step(self, message: Message) -> Observation:
        """Run the message's commands in order; without one the episode ends. Raises ValueError before ``reset``."""
        self._playing()
        if not message.tool_calls:
            return Observation([], [SHELL], terminated=True)
        return Observation([call.answered(await self._called(call)) for call in message.tool_calls], [SHELL])

    async def score(self, trace: Trace) -> Score:
        """The reward that tests/test.sh writes. Every other end earns 0 and is a part of the score by name."""
        task, box = self._playing()
        folder = self._config.folder / task.name / "tests"
        judge = self._sandbox(task, min(self._config.tests_s, task.tests_s), box.archive)
        result = await judge.run(
            ["bash", "-c", _JUDGE, "judge", str(task.workdir)],
            packed(tree(folder, "tests")),
            # Nothing that the agent left in its home is read by what the tests start.
            env={**task.env, **task.tests_env, "HOME": "/box/tmp", "PYTHONNOUSERSITE": "1"},
        )
        if result.outcome not in ("ok", "failed"):
            return Score(0.0, {f"tests_{result.outcome}": 1.0})
        if result.exit_code != 0:
            ended = (
                "left_running"
                if result.exit_code == _LEFT
                else "tests_killed"
                if result.exit_code in _KILLS
                else "tests_not_started"
            )
            return Score(0.0, {ended: 1.0})
        return _reward(judge.files())

    async def close(self) -> None:
        """Forget the episode's box."""
        self._task = self._box = None

    def snapshot(self) -> bytes:
        """Raises ValueError: an episode cannot be taken up again."""
        raise ValueError(f"{FAMILY} episodes have no snapshot")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: an episode cannot be taken up again."""
        raise ValueError(f"{FAMILY} episodes have no snapshot")

    async def _build(self, task: HarborTask) -> bytes:
        box = self._sandbox(task, self._config.build_s, b"")
        await box.run(["mkdir", "-p", *sorted(task.places)])
        for layer in task.layers:
            if not isinstance(layer, Run):
                box.archive += packed(layer)
                continue
            program = ["sh", "-c", 'mkdir -p "$0" && cd "$0" && exec "$@"', str(layer.workdir), *layer.program]
            result = await box.run(program, env=task.env)
            if result.outcome != "ok":
                said = (result.stderr or result.stdout).decode(errors="replace").strip()[-300:]
                raise RefusedError(
                    f"{task.name} needs an image: RUN {layer.program[-1][:100]} ended here as {result.outcome}: {said}"
                )
        await box.run(["mkdir", "-p", str(task.workdir)])
        return box.archive

    async def _called(self, call: ToolCall) -> str:
        task, box = self._playing()
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            arguments = None
        command = arguments.get("command") if isinstance(arguments, dict) else None
        if call.name != SHELL.name or not isinstance(command, str) or "\0" in command:
            return 'error: call shell with {"command": "…"}'
        result = await box.run(["bash", "-c", f'cd "$0" || exit; {command}', str(task.workdir)], env=task.env)
        return _told(result)

    def _sandbox(self, task: HarborTask, seconds: float, archive: bytes) -> Sandbox:
        config = self._config
        limits = Limits(
            cpu_s=seconds, wall_s=seconds, memory_bytes=config.memory_bytes, disk_bytes=config.disk_bytes, processes=64
        )
        return Sandbox(limits, archive=archive, fittings=Fittings(links=tuple(sorted(task.places))))

    def _playing(self) -> tuple[HarborTask, Sandbox]:
        if self._task is None or self._box is None:
            raise ValueError("no episode is open: call reset first")
        return self._task, self._box


def solve(folder: Path) -> list[Message]:
    """What an agent says that has the task's own solution: it lays it out, runs solve.sh and is done."""
    solution = base64.b64encode(packed(tree(folder / "solution", "solution"), ".")).decode()
    command = f"echo {solution} | base64 -d | tar -xpf - -C /box/work && bash /solution/solve.sh"
    call = ToolCall("functions.shell:0", "shell", json.dumps({"command": command}))
    return [Message("assistant", tool_calls=[call]), Message("assistant", "Done.")]


def _reward(files: dict[str, bytes]) -> Score:
    """What stands in reward.json, or else in reward.txt: a number in [0, 1], or an object with one called ``reward``."""
    name = next((name for name in ("reward.json", "reward.txt") if f"logs/verifier/{name}" in files), None)
    if name is None:
        return Score(0.0, {"no_reward": 1.0})
    try:
        told = json.loads(files[f"logs/verifier/{name}"])
    except (ValueError, RecursionError):
        told = None
    value = told.get("reward") if isinstance(told, dict) else told
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        return Score(0.0, {"bad_reward": 1.0})
    others = (
        {key: float(part) for key, part in told.items() if isinstance(part, int | float)}
        if isinstance(told, dict)
        else {}
    )
    return Score(float(value), {**others, "reward": float(value)})


def _told(result: Result) -> str:
    if result.outcome not in ("ok", "failed"):
        return f"error: ended by the limit on {result.outcome}; no file has changed"
    said = (result.stdout + result.stderr).decode(errors="replace")
    shown = said if len(said) <= MOST_SHOWN else f"{said[:MOST_SHOWN]}\n[cut: {len(said)} characters]"
    return f"{shown}\n[exit code {result.exit_code}]"


def _tags(task: HarborTask) -> tuple[str, ...]:
    tags: JSON | list[str] = task.metadata.get("tags", [])
    return tuple(map(str, tags))
