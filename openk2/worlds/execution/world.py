"""One episode's world: a box, the tools that work in it, a log of every call, and its state as others see it (K2 §3.2).

It has the simulator's shape, and runs asynchronously. State is read from a copy of the box's files: by us, or by a probe in a
fresh box, with nothing of the episode running.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from openk2.sandbox.config import Limits
from openk2.sandbox.once import Result, Runner
from openk2.sandbox.sandbox import Sandbox
from openk2.schema import JSON, Rubric, Score, ToolCall, ToolSpec
from openk2.worlds.execution.probe import rows_of
from openk2.worlds.judge import judge
from openk2.worlds.simulator import Called, encode, parse_arguments
from openk2.worlds.state import Rows

MAX_SHOWN = 8000  # characters of one result
# Equal commands give equal commits, whenever they run.
ENV = {
    "GIT_AUTHOR_NAME": "openk2", "GIT_AUTHOR_EMAIL": "openk2@localhost", "GIT_AUTHOR_DATE": "2025-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "openk2", "GIT_COMMITTER_EMAIL": "openk2@localhost", "GIT_COMMITTER_DATE": "2025-01-01T00:00:00Z",
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_EDITOR": "true",
}  # fmt: skip
QUERY = """
import json, sqlite3, sys
database = sqlite3.connect('data.db')
database.row_factory = sqlite3.Row
print(json.dumps([dict(row) for row in database.execute(sys.stdin.read())]))
database.commit()
"""


def _tool(name: str, description: str, **parameters: str) -> ToolSpec:
    properties = {key: {"type": "string", "description": words} for key, words in parameters.items()}
    return ToolSpec(name, description, {"type": "object", "properties": properties, "required": list(parameters)})


_COMMON = (
    _tool("list_files", "The paths of all files in the work folder."),
    _tool("read_file", "A file's text.", path="Path in the work folder."),
    _tool("write_file", "Write a file, its folders too.", path="Path in the work folder.", text="The whole text."),
    _tool("move_file", "Move or rename a file, never onto another.", source="Path now.", target="Path then."),
    _tool("search", "All lines that hold a text, with their files.", text="What to look for."),
)
_RUN = _tool("run", "Run a command in a shell in the work folder.", command="The command.")
TOOLS: Mapping[str, tuple[ToolSpec, ...]] = {
    "python": (*_COMMON, _RUN, _tool("run_tests", "Run the tests in tests.py.")),
    "folder": _COMMON,
    "repository": (*_COMMON, _RUN),
    "database": (_COMMON[0], _tool("query", "Run one SQL statement on data.db; its rows.", sql="The statement.")),
}


class BoxWorld:
    """Executes the calls of one episode in a box that belongs to it alone."""

    def __init__(self, payload: Mapping[str, Any], *, limits: Limits | None = None, pool: Runner | None = None) -> None:
        self.log: list[Called] = []
        self.initial: Rows = {}
        self._payload, self._limits, self._pool = payload, limits, pool
        self._box = self._fresh(b"")

    async def start(self) -> None:
        """Lay out the files and the state that the episode begins with. Raises SandboxError, ValueError for a bad setup."""
        for path, text in self._payload["files"].items():
            self._box.write(path, text.encode())
        result = await self._box.run(["sh", "-ec", self._payload["setup"]], env=ENV)
        if result.outcome != "ok":
            raise ValueError(f"the setup of a task failed: {result.stderr.decode(errors='replace').strip()[-200:]}")
        self.initial = await self.rows()

    @property
    def tools(self) -> list[ToolSpec]:
        """The tools as a model sees them."""
        return list(TOOLS[self._payload["family"]])

    async def rows(self) -> Rows:
        """The state now, judged in a fresh box."""
        return await rows_of(self._payload, self._fresh(self._box.archive))

    async def run(self, call: ToolCall) -> str:
        """Execute one call and log it. Returns compact JSON; whatever is wrong with a call is in its ``error``."""
        arguments, wrong = parse_arguments(call)
        if wrong is not None:
            result: JSON = {"error": wrong}
        else:
            result = await self._execute(call.name, arguments or {})
        self.log.append(Called(call.name, arguments, result))
        return encode(result)

    async def score(self, rubric: Rubric, answer: str, after: Rows | None = None) -> Score:
        """Judge the episode by the state (``after``, if it is at hand), the log, and the final answer."""
        after = await self.rows() if after is None else after
        names = self.initial.keys() | after.keys()  # a table may come or go
        before, after = ({name: rows.get(name, {}) for name in names} for rows in (self.initial, after))
        return judge(rubric, before, after, self.log, answer)

    def snapshot(self) -> JSON:
        """Files, log and first state, as plain JSON."""
        return {
            "archive": self._box.archive.hex(),
            "log": [called.to_json() for called in self.log],
            "initial": self.initial,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of the same task."""
        self._box = self._fresh(bytes.fromhex(snapshot["archive"]))
        self.log = [Called(**called) for called in snapshot["log"]]
        self.initial = snapshot["initial"]

    def _fresh(self, archive: bytes) -> Sandbox:
        return Sandbox(self._limits, pool=self._pool, archive=archive)

    async def _execute(self, name: str, arguments: JSON) -> JSON:
        spec = next((tool for tool in self.tools if tool.name == name), None)
        if spec is None:
            return {"error": f"unknown tool {name}"}
        wanted = set(spec.parameters["properties"])
        if arguments.keys() != wanted or not all(isinstance(value, str) for value in arguments.values()):
            return {"error": f"{name} takes {', '.join(sorted(wanted)) or 'no arguments'}, each a string"}
        try:
            return await self._do(name, arguments)
        except (OSError, ValueError) as error:
            return {"error": str(error)}

    async def _do(self, name: str, arguments: Mapping[str, str]) -> JSON:
        box = self._box
        match name:
            case "list_files":
                return {"files": [path for path in box.files() if not path.startswith(".git/")]}
            case "read_file":
                return {"text": _shown(box.read(arguments["path"]))}
            case "write_file":
                box.write(arguments["path"], arguments["text"].encode())
                return {"written": arguments["path"]}
            case "search":
                return {"lines": _lines(box.files(), arguments["text"])}
            case "move_file":
                source, target = shlex.quote(f"./{arguments['source']}"), shlex.quote(f"./{arguments['target']}")
                script = f"test ! -e {target} && mkdir -p $(dirname {target}) && mv {source} {target}"
                return _told(await box.run(["sh", "-c", script], env=ENV))
            case "run_tests":
                return _told(await box.run(["python3", "tests.py"], env=ENV))
            case "query":
                return _told(await box.run(["python3", "-c", QUERY], arguments["sql"].encode()))
        return _told(await box.run(["sh", "-c", arguments["command"]], env=ENV))


def _told(result: Result) -> JSON:
    said: JSON = {"exit_code": result.exit_code, "output": _shown(result.stdout)}
    if result.stderr:
        said["errors"] = _shown(result.stderr)
    if result.outcome not in ("ok", "failed"):
        return {"error": f"ended by the limit: {result.outcome}"}
    return said


def _shown(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + f"\n[cut: {len(text)} characters]"


def _lines(files: Mapping[str, bytes], text: str) -> list[str]:
    found = []
    for path, content in files.items():
        if not path.startswith(".git/"):
            found += [f"{path}: {line}" for line in content.decode(errors="replace").splitlines() if text in line]
    return found[:200]
