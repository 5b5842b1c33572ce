"""What a box is made of here: bubblewrap's arguments, the user it runs as, and which limits hold by what."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from openk2.sandbox.cgroup import Hierarchy, hierarchy
from openk2.sandbox.config import Fittings, Limits
from openk2.sandbox.packages import SHOWN_AT, places

BOX = "/box"  # the only place that can be written
WORK = f"{BOX}/work"
INSTALL = "bubblewrap is not installed: sudo apt install bubblewrap"
PYTHON = Path(sys.executable).resolve()
_PREFIX = Path(sys.base_prefix).resolve()
_USER = 1000  # inside
_UNUSED = 1_900_000_000  # user ids from here on belong to nobody
_MIN_KERNEL = (5, 14)  # counts a user's processes by user namespace: RLIMIT_NPROC means the box, not the host


class SandboxError(RuntimeError):
    """No box can be had, or the box is gone."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """How boxes are made on this host. ``drops_user``: each runs as a user id of its own, instead of as root."""

    bwrap: str
    drops_user: bool
    groups: Hierarchy | None

    def holds(self) -> dict[str, str]:
        """By what each limit holds here."""
        controlled = () if self.groups is None else self.groups.folders
        by_count = [] if os.geteuid() == 0 and not self.drops_user else ["RLIMIT_NPROC"]
        processes = [*(["cgroup"] if "pids" in controlled else []), *by_count]
        memory = ["cgroup (memory and disk together)"] if "memory" in controlled else []
        return {
            "cpu_s": f"{'cgroup' if 'cpuacct' in controlled else 'the sum of those alive'}, looked at every 50 ms",
            "wall_s": "a clock out here",
            "memory_bytes": ", ".join([*memory, "RLIMIT_DATA for each process", "a look at all every 50 ms"]),
            "processes": ", ".join(processes),
            "disk_bytes": "size of the tmpfs, the only place that can be written",
            "output_bytes": "counted out here as it is read",
        }

    def user(self) -> int | None:
        """The user id that the next box runs as, None for ours."""
        return _UNUSED + secrets.randbelow(100_000_000) if self.drops_user else None


@cache
def enclosure() -> Enclosure:
    """What this host has. Raises SandboxError, with what would help, where no safe box can be made."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxError(INSTALL)
    kernel = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if kernel < _MIN_KERNEL:
        raise SandboxError(f"a box needs Linux 5.14 or newer, this is {platform.release()}")
    groups = hierarchy()
    is_root = os.geteuid() == 0
    # A user of the box's own holds more than root does, but must be able to reach the interpreter.
    drops = is_root and all(folder.stat().st_mode & 0o001 for folder in (PYTHON, *PYTHON.parents))
    if is_root and not drops and (groups is None or "pids" not in groups.folders):
        raise SandboxError(
            f"run as root, nothing would stop a fork bomb: no pids cgroup can be written, and other users cannot reach {PYTHON}"
        )
    return Enclosure(bwrap, drops, groups)


def arguments(limits: Limits, fittings: Fittings, *, seccomp_fd: int, info_fd: int) -> list[str]:
    """The arguments of bwrap for a box whose first process is a shell that does what it reads."""
    shown = [
        word for place in places(fittings.packages) for word in ("--ro-bind", str(place), f"{SHOWN_AT}/{place.name}")
    ]
    return [
        "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--as-pid-1",
        "--cap-drop", "ALL", "--clearenv", "--uid", str(_USER), "--gid", str(_USER), "--hostname", "box",
        *_variables(), *_system(), *shown,
        "--proc", "/proc",
        *_devices(),
        "--size", str(limits.disk_bytes), "--tmpfs", "/box", "--dir", WORK, "--dir", "/box/tmp",
        "--symlink", "/box/tmp", "/tmp", "--symlink", "/box/tmp", "/dev/shm",
        *(word for name in fittings.links for word in ("--symlink", f"{WORK}/{name}", f"/{name}")),
        # /proc too: where we are root, the kernel lets root's own user id write its settings, capabilities or not.
        "--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK,
        "--seccomp", str(seccomp_fd), "--info-fd", str(info_fd),
        "--", "/bin/sh",
    ]  # fmt: skip


@cache
def _variables() -> list[str]:
    """The environment of every program."""
    path = ":".join(dict.fromkeys([str(_PREFIX / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]))
    named = {"PATH": path, "HOME": WORK, "TMPDIR": "/box/tmp", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return [word for name, value in named.items() for word in ("--setenv", name, value)]


@cache
def _system() -> list[str]:
    """The system's programs and libraries, and the interpreter's, read-only."""
    found = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/alternatives", "/etc/alternatives"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            found += ["--symlink", os.readlink(name), name]
        else:
            found += ["--ro-bind-try", name, name]
    return found if _PREFIX.is_relative_to("/usr") else [*found, "--ro-bind", str(_PREFIX), str(_PREFIX)]


def _devices() -> list[str]:
    found = ["--tmpfs", "/dev"]
    for name in ("null", "zero", "full", "random", "urandom"):
        found += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        found += ["--symlink", f"/proc/self/fd{target}", f"/dev/{name}"]
    return found
