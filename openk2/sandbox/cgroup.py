"""Control groups, where this process may make them below its own: they stop and count a whole box, whatever it forks."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_numbers = itertools.count()
_CONTROLLERS = ("pids", "memory", "cpuacct")
_FREED_S = 2.0  # a group can be removed once its last process is gone


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Folders of our own groups by controller (version 2 has one folder for all), and the version."""

    version: int
    folders: Mapping[str, Path]


@cache
def hierarchy() -> Hierarchy | None:
    """Where groups can be made, or None. Removes groups that processes now dead have left behind."""
    found = _unified() or _separate()
    if found is not None:
        for folder in set(found.folders.values()):
            for left in folder.glob("openk2-*-*"):
                if not Path("/proc", left.name.split("-")[1]).exists():
                    with suppress(OSError):
                        left.rmdir()
    return found


class Group:
    """One group. ``add`` its first process before that starts others, ``remove`` it when all are dead."""

    def __init__(self, where: Hierarchy, *, processes: int, memory_bytes: int) -> None:
        self._where = where
        name = f"openk2-{os.getpid()}-{next(_numbers)}"
        self._folders = {controller: folder / name for controller, folder in where.folders.items()}
        try:
            for folder in self._folders.values():
                folder.mkdir(exist_ok=True)
            old = where.version == 1
            if "pids" in self._folders:
                (self._folders["pids"] / "pids.max").write_text(str(processes))
            if "memory" in self._folders:
                memory = self._folders["memory"]
                (memory / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(memory_bytes))
                swap = memory / ("memory.memsw.limit_in_bytes" if old else "memory.swap.max")
                if swap.exists():
                    swap.write_text(str(memory_bytes) if old else "0")
        except BaseException:
            self._rmdir()
            raise

    def add(self, pid: int) -> None:
        """Move a process into the group; what it starts from then on is in it too."""
        for folder in set(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def num_oom_kills(self) -> int:
        """How many processes the kernel has killed here because memory ended."""
        if "memory" not in self._folders:
            return 0
        name = "memory.oom_control" if self._where.version == 1 else "memory.events"
        lines = (self._folders["memory"] / name).read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def cpu_s(self) -> float | None:
        """CPU seconds of all that ever ran here, None where nobody counts."""
        if "cpuacct" not in self._folders:
            return None
        if self._where.version == 1:
            return int((self._folders["cpuacct"] / "cpuacct.usage").read_text()) / 1e9
        stat = (self._folders["cpuacct"] / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) / 1e6 for line in stat if line.startswith("usage_usec "))

    def peak_bytes(self) -> int | None:
        """The most memory that was ever taken here, None where nobody counts."""
        if "memory" not in self._folders:
            return None
        name = "memory.max_usage_in_bytes" if self._where.version == 1 else "memory.peak"
        peak = self._folders["memory"] / name
        return int(peak.read_text()) if peak.exists() else None  # Linux 5.19 for version 2

    async def remove(self) -> None:
        """Remove the group. Raises TimeoutError when a process in it lives on."""
        async with asyncio.timeout(_FREED_S):
            while not self._rmdir():
                await asyncio.sleep(0.002)

    def _rmdir(self) -> bool:
        for folder in set(self._folders.values()):
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


def _unified() -> Hierarchy | None:
    """Version 2: our own group must let its children have controllers, which the kernel refuses to one with processes."""
    root, ours = _mounts().get("cgroup2"), _ours().get("")
    if root is None or ours is None:
        return None
    folder = root / ours
    try:
        if not {"pids", "memory"}.issubset((folder / "cgroup.subtree_control").read_text().split()):
            (folder / "cgroup.subtree_control").write_text("+pids +memory")
        return Hierarchy(2, dict.fromkeys(_CONTROLLERS, folder)) if os.access(folder, os.W_OK) else None
    except OSError:
        return None


def _separate() -> Hierarchy | None:
    """Version 1: a tree for each controller."""
    mounts, ours = _mounts(), _ours()
    folders = {name: mounts[name] / ours[name] for name in _CONTROLLERS if name in mounts and name in ours}
    folders = {name: folder for name, folder in folders.items() if os.access(folder, os.W_OK)}
    return Hierarchy(1, folders) if folders else None


def _mounts() -> dict[str, Path]:
    """Where the trees are mounted, by controller, or ``cgroup2``."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found[kind] = Path(place)
        elif kind == "cgroup":
            found |= {name: Path(place) for name in options.split(",") if name in _CONTROLLERS}
    return found


def _ours() -> dict[str, str]:
    """Our group in each tree, by controller; version 2's has no name."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        found |= dict.fromkeys(names.split(","), path.lstrip("/"))
    return found
