"""A Harbor task folder as it lies on disk: task.toml, instruction.md, environment/Dockerfile, tests/, solution/.

What a box here cannot give is refused by name when the folder is read, rather than scored as the agent's failure.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from openk2.schema import JSON

BASES = ("debian", "ubuntu", "python")
"""Images for which the box's own system stands in, whatever their version."""
PLACES = ("logs", "tests", "solution")
_SYSTEM = {"bin", "box", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr"}
_NO_EFFECT = {"CMD", "EXPOSE", "LABEL", "MAINTAINER"}
_NEEDS = {
    ("steps",): "several steps",
    ("environment", "docker_image"): "an image",
    ("environment", "gpus"): "a GPU",
    ("environment", "tpu"): "a TPU",
    ("environment", "mcp_servers"): "MCP servers",
    ("environment", "healthcheck"): "something that keeps running",
    ("environment", "skills_dir"): "skills",
    ("agent", "user"): "a user of its own",
    ("verifier", "user"): "a user of its own",
    ("verifier", "environment"): "an image for its tests",
    ("verifier", "collect"): "artifacts of other containers",
}


class RefusedError(ValueError):
    """A task that a box here cannot hold, and why."""


@dataclass(frozen=True, slots=True)
class Run:
    """A program that builds the box, and the folder it starts in."""

    workdir: PurePosixPath
    program: tuple[str, ...]


@dataclass(slots=True)
class HarborTask:
    """What one folder asks for. ``layers`` build its box, in order: files by their path from the root, and programs to run."""

    name: str
    instruction: str
    tests_s: float
    metadata: JSON
    env: dict[str, str]
    tests_env: dict[str, str]
    workdir: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))
    layers: list[Mapping[str, Path] | Run] = field(default_factory=list)
    places: set[str] = field(default_factory=lambda: set(PLACES))


def read_task(folder: Path) -> HarborTask:
    """Read a folder. Raises RefusedError for what it needs and cannot have, ValueError naming a file that is missing or damaged."""
    config = _toml(folder / "task.toml")
    for keys, need in _NEEDS.items():
        value: Any = config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value:
            raise RefusedError(f"{folder.name} needs {need}: task.toml sets {'.'.join(keys)}")
    if config.get("environment", {}).get("os", "linux") != "linux":
        raise RefusedError(f"{folder.name} needs {config['environment']['os']}")
    if config.get("environment", {}).get("allowed_hosts"):
        raise RefusedError(f"{folder.name} needs the network: task.toml sets environment.allowed_hosts")
    if not (folder / "tests/test.sh").is_file():
        raise RefusedError(f"{folder.name} has no tests/test.sh")
    verifier = config.get("verifier", {})
    if verifier.get("environment_mode", "shared") != "shared":
        raise RefusedError(f"{folder.name} needs an image for its tests: task.toml sets verifier.environment_mode")
    task = HarborTask(
        folder.name,
        _text(folder / "instruction.md"),
        float(verifier.get("timeout_sec", 600)),
        dict(config.get("metadata", {})),
        _plain(folder, config.get("environment", {}).get("env", {})),
        _plain(folder, verifier.get("env", {})),
    )
    others = [path.name for path in (folder / "environment").glob("*compose.y*ml")]
    if others:
        raise RefusedError(f"{folder.name} needs several containers: environment/{others[0]}")
    _Dockerfile(task, folder / "environment").apply()
    if workdir := config.get("environment", {}).get("workdir"):
        task.workdir = PurePosixPath(workdir)
    if len(task.workdir.parts) == 1:
        raise RefusedError(f"{folder.name} works in /, which is read-only in a box: its Dockerfile names no WORKDIR")
    task.places.add(_place(folder.name, task.workdir))
    return task


def packed(files: Mapping[str, Path], prefix: str = "work") -> bytes:
    """An archive of files of this machine, under ``prefix``; those that may be run here may be run there."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in sorted(files.items()):
            data, member = path.read_bytes(), tarfile.TarInfo(f"{prefix}/{name}")
            member.size, member.mode = len(data), 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def tree(folder: Path, at: str) -> dict[str, Path]:
    """All regular files below a folder, by the path they get below ``at``; links are left out."""
    return {
        str(PurePosixPath(at) / path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


class _Dockerfile:
    """The part of a Dockerfile that needs no image: FROM a plain base, WORKDIR, ENV, COPY and RUN."""

    def __init__(self, task: HarborTask, context: Path) -> None:
        self._task, self._context = task, context
        self._folders = {PurePosixPath("/")}

    def apply(self) -> None:
        file = self._context / "Dockerfile"
        lines = _text(file).replace("\\\n", " ").splitlines()
        for line in lines:
            word, _, rest = line.strip().partition(" ")
            if word and not word.startswith("#"):
                self._instruction(word.upper(), rest.strip())

    def _instruction(self, word: str, rest: str) -> None:
        task = self._task
        if rest.startswith("--") or "<<" in rest:
            raise self._refused(f"{word} {rest}")
        match word:
            case "FROM":
                name = rest.split()[0].removeprefix("docker.io/").removeprefix("library/").split(":")[0].split("@")[0]
                if name not in BASES:
                    raise RefusedError(f"{task.name} needs an image: FROM {rest}")
            case "WORKDIR":
                task.workdir = task.workdir / rest
                self._folders |= {task.workdir, *task.workdir.parents}
                self._remember(task.workdir)
            case "ENV":
                pairs = (
                    dict(part.partition("=")[::2] for part in shlex.split(rest))
                    if "=" in rest
                    else dict([rest.split(None, 1)])
                )
                task.env |= _plain(self._context.parent, pairs)
            case "COPY":
                self._copy(shlex.split(rest))
            case "RUN":
                program = json.loads(rest) if rest.startswith("[") else ["sh", "-c", rest]
                task.layers.append(Run(task.workdir, tuple(program)))
            case _ if word not in _NO_EFFECT:
                raise self._refused(f"{word} {rest}")

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        if not sources or target.startswith("["):
            raise self._refused(f"COPY {shlex.join(words)}")
        into = self._task.workdir / target
        self._remember(into)
        for source in sources:
            path = (self._context / source.lstrip("/")).resolve()
            if not path.is_relative_to(self._context.resolve()) or not path.exists():
                raise RefusedError(f"{self._task.name}: COPY {source} names nothing in environment/")
            at = str(into)[1:]
            if path.is_dir():
                self._folders.add(into)
                files = tree(path, at)
            else:
                is_folder = len(sources) > 1 or target.endswith("/") or into in self._folders
                files = {f"{at}/{path.name}" if is_folder else at: path}
            self._task.layers.append(files)

    def _remember(self, path: PurePosixPath) -> None:
        if len(path.parts) > 1:
            self._task.places.add(_place(self._task.name, path))

    def _refused(self, line: str) -> RefusedError:
        return RefusedError(f"{self._task.name} needs an image: its Dockerfile says {line[:100]}")


def _place(name: str, path: PurePosixPath) -> str:
    place = path.parts[1]
    if place in _SYSTEM or place == Path(sys.base_prefix).resolve().parts[1] or ".." in path.parts:
        raise RefusedError(f"{name} writes {path}: a box's own system is read-only")
    return place


def _plain(folder: Path, pairs: Mapping[str, Any]) -> dict[str, str]:
    for name, value in pairs.items():
        if "$" in str(value):
            raise RefusedError(f"{folder.name} needs a variable of its host: {name}={value}")
    return {name: str(value) for name, value in pairs.items()}


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    return path.read_text(encoding="utf-8")


def _toml(path: Path) -> JSON:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
