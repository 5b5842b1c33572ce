"""``rollouts/step-000012.jsonl``: the finished traces of each step. A step's file is indexed when it is looked at."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, FiniteFloat

from openk2.schema import JSON, Trace
from openk2.view.rl.metrics import finite
from openk2.view.rl.tail import Tail, parse
from openk2.view.trajectories.record import Message, Tool

NAME = re.compile(r"step-(\d{6,})\.jsonl", re.ASCII)
FILES_INDEXED = 32  # at once; each holds a few words for each of its traces
REQUEST_CHARS = 140


class _Score(BaseModel):
    total: FiniteFloat
    parts: dict[str, FiniteFloat] = {}


class _Shown(BaseModel):
    """What is shown of a trace, as it must be to be shown."""

    id: str
    task_id: str = ""
    seed: int = 0
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    score: _Score | None = None
    stop_reason: str | None = None
    info: JSON = {}


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is known of a trace without keeping it, and where it lies."""

    step: int
    place: int
    id: str
    family: str
    kind: str
    reward: float | None
    stop_reason: str
    request: str
    offset: int
    length: int


class _File:
    """One step's traces, followed while the step lasts."""

    def __init__(self, path: Path, step: int) -> None:
        self.rollouts: list[Rollout] = []
        self.num_damaged = 0
        self._step, self._tail, self._without_trace = step, Tail(path), 0

    def poll(self) -> None:
        for line in self._tail.lines():
            if line is None:
                self.rollouts, self._without_trace = [], 0
            elif (trace := _trace(line.record)) is not None:
                self.rollouts.append(_rollout(self._step, len(self.rollouts), trace, line.offset, line.length))
            else:
                self._without_trace += 1
        self.num_damaged = self._tail.num_damaged + self._without_trace


class Rollouts:
    """The folder ``rollouts`` of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps: list[int] = []
        self._names: list[str] = []
        self._files: OrderedDict[int, _File] = OrderedDict()

    def poll(self) -> bool:
        """Look which steps have traces, and whether the newest has more. True when anything has changed."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            names = []
        if names != self._names:
            self._names, before = names, self._steps
            self._steps = sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))
            if self._steps != before:
                return True
        if not self._steps:
            return False
        newest = self._files.get(self._steps[-1])
        return newest is not None and len(newest.rollouts) != len(self.of(self._steps[-1]))

    @property
    def steps(self) -> list[int]:
        """Those with a file, rising."""
        return self._steps

    @property
    def num_damaged(self) -> int:
        """Lines without a trace in the files indexed now."""
        return sum(file.num_damaged for file in self._files.values())

    def of(self, step: int) -> list[Rollout]:
        """The traces of a step, in the order they finished; none for a step without a file."""
        file = self._files.pop(step, None) or _File(self._path(step), step)
        file.poll()
        self._files[step] = file
        while len(self._files) > FILES_INDEXED:
            self._files.popitem(last=False)
        return list(file.rollouts)

    def trace(self, rollout: Rollout) -> Trace:
        """The whole trace but for its tokens. Raises ValueError when its file has changed since."""
        try:
            with self._path(rollout.step).open("rb") as file:
                file.seek(rollout.offset)
                record = parse(file.read(rollout.length))
        except FileNotFoundError:
            record = None
        trace = None if record is None else _trace(record)
        if trace is None or trace.id != rollout.id:
            raise ValueError(f"the traces of step {rollout.step} have been written anew: look again")
        return trace

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}.jsonl"


def _trace(record: JSON) -> Trace | None:
    """A trace without its tokens, whose arrays may be packed; None for a record that is no trace."""
    try:
        shown = _Shown.model_validate(record).model_dump(exclude_none=True)
        return Trace.from_json({**shown, "tokenizer_hash": "", "segments": []})
    except ValueError:  # pydantic's is one
        return None


def _rollout(step: int, place: int, trace: Trace, offset: int, length: int) -> Rollout:
    request = next((message.content for message in trace.messages if message.role == "user"), trace.task_id)
    return Rollout(
        step=step,
        place=place,
        id=trace.id,
        family=str(trace.info.get("family", "")),
        kind=str(trace.info.get("kind", "")),
        reward=finite(trace.info.get("reward", trace.score.total if trace.score else None)),
        stop_reason=str(trace.stop_reason or ""),
        request=request[:REQUEST_CHARS],
        offset=offset,
        length=length,
    )
