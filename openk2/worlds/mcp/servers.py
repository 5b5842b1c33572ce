"""Known servers: what installs each, what starts it, and where its state can be seen.

Each gets an environment of its own under a cache folder, since some stand on older SDKs than others:

    python -m openk2.worlds.mcp.servers time git
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openk2.jobs.atomic import read_json, write_json
from openk2.worlds.mcp.process import Command
from openk2.worlds.mcp.state import Database, Files, Graph, Repository, State

INSTALL_SECONDS = 600.0
MARKER = "installed.json"


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server by its packages. ``{folder}`` in arguments and variables is the episode's folder."""

    name: str
    manager: Literal["pip", "npm"]
    packages: tuple[str, ...]
    program: str
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    state: type[State] | None = None

    @property
    def install_line(self) -> str:
        """The command that installs it."""
        return f"python -m openk2.worlds.mcp.servers {self.name}"

    def command(self, folder: Path, cache: Path | None = None) -> Command:
        """What starts it for an episode in ``folder``. Raises FileNotFoundError, with the install line, when missing."""
        if not is_installed(self, cache):
            raise FileNotFoundError(f"the MCP server {self.name} is not installed: {self.install_line}")
        place = (cache or cache_folder()) / self.name
        program = place / ("bin" if self.manager == "pip" else "node_modules/.bin") / self.program
        filled = [argument.replace("{folder}", str(folder)) for argument in self.arguments]
        variables = {name: value.replace("{folder}", str(folder)) for name, value in self.variables.items()}
        return Command((str(program), *filled), variables, folder)


SERVERS: Mapping[str, KnownServer] = {
    server.name: server
    for server in (
        # The zone is named in the tools' descriptions: without the argument their hashes differ between machines.
        KnownServer("time", "pip", ("mcp-server-time==2026.10.19",), "mcp-server-time", ("--local-timezone", "UTC")),
        KnownServer(
            "git", "pip", ("mcp-server-git==2026.10.19",), "mcp-server-git", ("--repository", "{folder}/repository"),
            state=Repository,
        ),
        KnownServer(
            "sqlite", "pip", ("mcp-server-sqlite==2025.4.25", "mcp<2"), "mcp-server-sqlite",
            ("--db-path", "{folder}/data.db"), state=Database,
        ),
        KnownServer(
            "filesystem", "npm", ("@modelcontextprotocol/server-filesystem@2026.8.31",), "mcp-server-filesystem",
            ("{folder}/files",), state=Files,
        ),
        KnownServer(
            "memory", "npm", ("@modelcontextprotocol/server-memory@2026.8.31",), "mcp-server-memory",
            variables={"MEMORY_FILE_PATH": "{folder}/memory.jsonl"}, state=Graph,
        ),
        KnownServer("everything", "npm", ("@modelcontextprotocol/server-everything@2026.8.31",), "mcp-server-everything"),
    )
}  # fmt: skip


def cache_folder() -> Path:
    """Where environments of servers live: ``openk2/mcp`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openk2" / "mcp"


def is_installed(server: KnownServer, cache: Path | None = None) -> bool:
    """Whether these very packages were installed to their end."""
    marker = (cache or cache_folder()) / server.name / MARKER
    return marker.is_file() and read_json(marker) == {"packages": list(server.packages)}


def install(server: KnownServer, cache: Path | None = None) -> Path:
    """Install a server into an environment of its own, from wheels or without install scripts. Returns the folder.

    Raises RuntimeError with the last line the installer said; what it left is removed at the next try.
    """
    place = (cache or cache_folder()) / server.name
    if is_installed(server, cache):
        return place
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    if server.manager == "pip":
        venv.create(place, with_pip=True)
        _run(
            [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *server.packages]
        )
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(f"{server.name} needs npm; on Debian or Ubuntu: sudo apt install npm")
        _run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(place), *server.packages])
    write_json(place / MARKER, {"packages": list(server.packages)})
    return place


def _run(words: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=INSTALL_SECONDS, stdin=subprocess.DEVNULL
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{words[0]} did not end within {INSTALL_SECONDS:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise RuntimeError(f"{' '.join(words)} failed: {said[-1]}")


def main() -> None:
    """Install the named servers, all of them without a name."""
    parser = argparse.ArgumentParser(description="install MCP servers into the cache")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SERVERS)}")
    names = parser.parse_args().names or list(SERVERS)
    if unknown := [name for name in names if name not in SERVERS]:
        parser.error(f"there is no {unknown[0]!r}, there are {', '.join(SERVERS)}")
    for name in names:
        try:
            print(f"{name}: {install(SERVERS[name])}")
        except RuntimeError as error:
            sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
