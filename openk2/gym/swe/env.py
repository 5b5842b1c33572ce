"""Mending a repository as an environment: a shell, a view and an edit, in a box without history (K2 §3.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from openk2.gym.family import Family
from openk2.gym.swe import bundle
from openk2.gym.swe.suite import LIMITS
from openk2.gym.swe.task import FAMILY as NAME
from openk2.gym.swe.task import Repair, judge
from openk2.jobs import jsonl
from openk2.sandbox.config import MB, Fittings, Limits
from openk2.sandbox.enclosure import SandboxError
from openk2.sandbox.once import Result
from openk2.sandbox.packages import SHOWN_AT
from openk2.sandbox.sandbox import Sandbox
from openk2.schema import JSON, Message, Observation, Score, Task, ToolCall, ToolSpec, Trace

MAX_SHOWN = 10_000  # characters of one result
MAX_LINES = 400  # of one view
MOST_DRAWS = 20  # for each repository asked for, before there are taken to be no more
REQUEST = (
    "This repository needs a change. Make it in the source files; tests that you do not see decide, and changes to tests or settings "
    "are not looked at. When you are done, answer without a call.\n\n"
)


def _tool(name: str, description: str, **parameters: tuple[str, str]) -> ToolSpec:
    properties = {key: {"type": kind, "description": words} for key, (kind, words) in parameters.items()}
    return ToolSpec(name, description, {"type": "object", "properties": properties, "required": list(parameters)})


TOOLS = (
    _tool("shell", "Run a command in a shell in the repository's folder.", command=("string", "The command.")),
    _tool(
        "view", "Show lines of a file, with their numbers.",
        path=("string", "Path in the repository."), start=("integer", "First line, from 1."), end=("integer", "Last line."),
    ),
    _tool(
        "edit", "Replace a text that stands exactly once in a file; an empty old text makes a new file.",
        path=("string", "Path in the repository."), old=("string", "The text as it stands."), new=("string", "What takes its place."),
    ),
)  # fmt: skip


class SweConfig(BaseModel):
    """Which repositories to mend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Path | None = Field(
        default=None, description="a file of mined tasks, one to a line; the bundled ones if not set"
    )
    num_train: int = Field(default=8, ge=0, description="bundled tasks of the train split")
    num_heldout: int = Field(default=4, ge=0, description="bundled tasks of the heldout split")
    command_seconds: float = Field(
        default=2.0, gt=0, description="CPU of one command of the agent; twice that by the clock"
    )
    seed: int = Field(default=0, description="draws the bundled repositories")


class SweEnv:
    """One repository at a time (an ``Env``); a message without calls ends the episode."""

    resumable: Literal["snapshot"] = "snapshot"

    def __init__(self, config: SweConfig | None = None, *, judging: Limits = LIMITS) -> None:
        """``judging`` limits the run of the tests that decide."""
        self._config, self._judging = config or SweConfig(), judging
        seconds = self._config.command_seconds
        self._shell = judging.model_copy(update={"cpu_s": seconds, "wall_s": 2 * seconds, "output_bytes": 1 * MB})
        self._task: Task | None = None
        self._box = Sandbox(self._shell)

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of "train" or "heldout". Raises ValueError for another split, OSError where the file of tasks is missing."""
        counts = {"train": self._config.num_train, "heldout": self._config.num_heldout}
        if split not in counts:
            raise ValueError(f'no split "{split}" in {NAME}: choose "train" or "heldout"')
        if self._config.tasks is not None:
            mined = [Task.from_json(row) for row in jsonl.read(self._config.tasks)]
            return [task for task in mined if task.split == split]
        problems = bundle.problems(split)
        rng = Random(f"{self._config.seed} {split}")
        found: dict[str, Task] = {}
        for _ in range(MOST_DRAWS * counts[split]):
            task = bundle.write(split, rng, *problems[len(found) % len(problems)])
            found[task.id] = task
            if len(found) == counts[split]:
                break
        if len(found) < counts[split]:
            raise ValueError(
                f"{NAME} has {len(found)} different {split} repositories, not {counts[split]}: ask for fewer"
            )
        return list(found.values())

    async def reset(self, task: Task, seed: int) -> Observation:
        """Lay the repository out and show the request; ``seed`` changes nothing. Raises ValueError for a task of another family."""
        if task.family != NAME:
            raise ValueError(f'task "{task.id}" is of family "{task.family}", not "{NAME}"')
        self._task = task
        self._box = self._fresh(b"")
        for path, text in task.payload["files"].items():
            self._box.write(path, text.encode())
        return Observation([Message("user", REQUEST + task.payload["request"])], list(TOOLS))

    async def step(self, message: Message) -> Observation:
        """Execute the message's calls in order; without calls the episode ends."""
        if not message.tool_calls:
            return Observation([], list(TOOLS), terminated=True)
        results = [call.answered(await self._answer(call)) for call in message.tool_calls]
        return Observation(results, list(TOOLS))

    async def score(self, trace: Trace) -> Score:
        """What the tests that decide say of the source files left in the box."""
        try:
            left = self._box.files()
        except SandboxError:  # the agent has taken the box over and left no archive
            return Score(0.0, {"broken_box": 1.0})
        texts = {path: text for path, data in left.items() if (text := _text(data)) is not None}
        return await judge(Repair(**self._playing.payload), texts, self._judging)

    async def close(self) -> None:
        """Forget the episode's box."""
        self._task, self._box = None, Sandbox(self._shell)

    def snapshot(self) -> bytes:
        """The whole episode: task and files."""
        return json.dumps({"task": self._playing.to_json(), "archive": self._box.archive.hex()}).encode()

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot, of this or another SweEnv."""
        whole = json.loads(state)
        self._task = Task.from_json(whole["task"])
        self._box = self._fresh(bytes.fromhex(whole["archive"]))

    @property
    def _playing(self) -> Task:
        if self._task is None:
            raise ValueError("no repository is open: call reset first")
        return self._task

    def _fresh(self, archive: bytes) -> Sandbox:
        payload = self._playing.payload
        packages = (*(["pytest"] if payload["runner"] == "pytest" else []), *payload["packages"])
        return Sandbox(self._shell, archive=archive, fittings=Fittings(packages=packages))

    async def _answer(self, call: ToolCall) -> str:
        """What one call says; whatever is wrong with it is told in words."""
        spec = next((tool for tool in TOOLS if tool.name == call.name), None)
        if spec is None:
            return f"error: no tool called {call.name}; there are {', '.join(tool.name for tool in TOOLS)}"
        wanted: Mapping[str, Mapping[str, str]] = spec.parameters["properties"]
        try:
            arguments = json.loads(call.arguments)
        except (ValueError, RecursionError) as error:
            return f"error: the arguments are not JSON: {error}"
        kinds = {"string": str, "integer": int}
        if (
            not isinstance(arguments, dict)
            or arguments.keys() != wanted.keys()
            or not all(type(arguments[key]) is kinds[words["type"]] for key, words in wanted.items())
        ):
            form = ", ".join(f"{key} ({words['type']})" for key, words in wanted.items())
            return f"error: {call.name} takes {form}"
        try:
            return await self._do(call.name, arguments)
        except (OSError, ValueError, SandboxError) as error:
            return f"error: {error}"

    async def _do(self, name: str, arguments: JSON) -> str:
        match name:
            case "view":
                return self._view(arguments["path"], arguments["start"], arguments["end"])
            case "edit":
                return self._edit(arguments["path"], arguments["old"], arguments["new"])
        env = {"PYTHONPATH": SHOWN_AT, "GIT_CONFIG_NOSYSTEM": "1"}
        return _told(await self._box.run(["sh", "-c", arguments["command"]], env=env))

    def _view(self, path: str, start: int, end: int) -> str:
        lines = self._box.read(path).decode(errors="replace").splitlines()
        if not 1 <= start <= end:
            raise ValueError(f"lines go from 1 up, and start is not above end: got {start} to {end}")
        shown = lines[start - 1 : min(end, start - 1 + MAX_LINES)]
        numbered = [f"{number:5d}  {line}" for number, line in enumerate(shown, start)]
        return _cut("\n".join([*numbered, f"[{len(lines)} lines in all]"]))

    def _edit(self, path: str, old: str, new: str) -> str:
        if old == "":
            if path in self._box.files():
                raise ValueError(f"{path} is there already: say what to replace")
            self._box.write(path, new.encode())
            return f"made {path}"
        text = self._box.read(path).decode(errors="surrogateescape")
        if (count := text.count(old)) != 1:
            raise ValueError(f"the old text stands {count} times in {path}; it must stand once")
        self._box.write(path, text.replace(old, new).encode(errors="surrogateescape"))
        return f"changed {path}"


def _told(result: Result) -> str:
    said = (result.stdout + result.stderr).decode(errors="replace")
    if result.outcome not in ("ok", "failed"):
        return _cut(f"{said}\n[ended by the limit: {result.outcome}; no file has changed]")
    return _cut(f"{said}\n[exit code {result.exit_code}]")


def _cut(text: str) -> str:
    if len(text) <= MAX_SHOWN:
        return text
    half = MAX_SHOWN // 2
    return f"{text[:half]}\n[{len(text) - MAX_SHOWN} characters left out]\n{text[-half:]}"


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _calls(edits: Sequence[Mapping[str, Any]]) -> list[Message]:
    return [
        Message("assistant", tool_calls=[ToolCall(f"functions.edit:{number}", "edit", json.dumps(edit))])
        for number, edit in enumerate(edits)
    ]


def _gold(task: Task, observation: Observation, rng: Random) -> list[Message]:
    """Puts in the true solution, file by file."""
    files = task.payload["files"]
    edits = [{"path": path, "old": files.get(path, ""), "new": text} for path, text in task.payload["gold"].items()]
    return [*_calls(edits), Message("assistant", "Done.")]


def _guess(task: Task, observation: Observation, rng: Random) -> list[Message]:
    """Takes out a line of a source file at random."""
    files: Mapping[str, str] = task.payload["files"]
    path = rng.choice([path for path in files if path.endswith(".py") and files[path] and "test" not in path])
    lines = files[path].splitlines(keepends=True)
    place = rng.randrange(len(lines))
    return _calls([{"path": path, "old": files[path], "new": "".join(lines[:place] + lines[place + 1 :])}])


FAMILY = Family(NAME, "repositories to mend, judged by hidden tests", SweEnv, _gold, _guess, chance=0.0)
