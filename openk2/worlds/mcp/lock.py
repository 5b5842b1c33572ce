"""The lockfile: which tools a server had when a person last looked, a hash for each.

A server may rewrite its tools between two connections, or within one. What differs from the lock is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from openk2.jobs.atomic import read_json, write_json
from openk2.schema import JSON
from openk2.worlds.state import canonical


@dataclass(frozen=True, slots=True)
class Lock:
    """One server as it was: its name, what starts it, its own word for its version, the hash of every tool."""

    server: str
    command: tuple[str, ...]
    version: str
    tools: Mapping[str, str]

    def to_json(self) -> JSON:
        """Plain JSON, tools by name."""
        return {
            "server": self.server,
            "command": list(self.command),
            "version": self.version,
            "tools": dict(sorted(self.tools.items())),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote. Raises KeyError for a missing field."""
        return cls(data["server"], tuple(data["command"]), data["version"], dict(data["tools"]))

    def write(self, path: Path) -> None:
        """Accept these tools: replace the lockfile, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """A lockfile. Raises FileNotFoundError, and ValueError naming a file that is none."""
        try:
            return cls.from_json(read_json(path))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is no lockfile: {error!r}; remove it to accept the tools anew") from error

    def differences(self, found: Lock) -> list[str]:
        """What ``found`` has otherwise, by name: ``changed``, ``added``, ``removed``. Empty when all is as it was."""
        before, now = self.tools, found.tools
        return [
            *(f"changed {name}" for name in sorted(before.keys() & now.keys()) if before[name] != now[name]),
            *(f"added {name}" for name in sorted(now.keys() - before.keys())),
            *(f"removed {name}" for name in sorted(before.keys() - now.keys())),
        ]


class ToolsChangedError(Exception):
    """A server's tools are not those that were accepted."""

    def __init__(self, server: str, differences: Sequence[str]) -> None:
        super().__init__(
            f"the tools of {server} are not those accepted: {', '.join(differences)}; look at them and write the lock anew"
        )
        self.differences = list(differences)


def fingerprint(name: str, description: str | None, schema: Any) -> str:
    """The hash of a declaration as the server sent it, before anything is mended."""
    whole = canonical({"name": name, "description": description, "inputSchema": schema})
    return hashlib.sha256(whole.encode()).hexdigest()
