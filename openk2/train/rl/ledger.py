"""What a stage has played, on disk: no finished trace is lost or learnt from twice, whenever the process is killed.

The folder ``rollouts`` of a stage holds, for step N of the trainer:

- ``step-N.jsonl``: the traces that step N learns from, and those it had to drop. While it is there, a step that is done again takes
  it instead of playing. Written whole, before the step is taken.
- ``unfinished.jsonl``: what stood still after step N. Written whole, after ``step-N.jsonl``.
- ``arrived-N-P.jsonl``: what finished in process P while it played for step N, trace by trace. Kept until ``unfinished.jsonl`` knows it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from openk2.jobs import jsonl
from openk2.jobs.atomic import read_json, write_json
from openk2.schema import JSON, Trace
from openk2.train.rl.rollout import Group, arrivals, step_of


class Ledger:
    """One such folder. ``identity`` says whose rollouts these are: those of another policy are no use."""

    def __init__(self, folder: Path, identity: Mapping[str, object], *, say: Callable[[str], None]) -> None:
        self.folder = folder
        name = self.folder / "identity.json"
        if self.folder.exists() and not (name.exists() and read_json(name) == identity):
            say(f"rl: {self.folder} holds rollouts of another policy, tokenizer or recipe: they are dropped")
            shutil.rmtree(self.folder)
        write_json(name, dict(identity))

    # -- what a step learns from --------------------------------------------------------------

    def has_batch(self, step: int) -> bool:
        """Whether a step was begun before."""
        return self._batch(step).exists()

    def batch(self, step: int) -> list[Group] | None:
        """The groups of a step that was begun before; None for a new one."""
        return read_batch(self._batch(step)) if self.has_batch(step) else None

    def write_batch(self, step: int, groups: Iterable[Group]) -> None:
        """Note what a step learns from, before it does."""
        jsonl.write(self._batch(step), (row for group in groups for row in _rows(group)))

    # -- what stands still --------------------------------------------------------------------

    def write_unfinished(self, step: int, groups: Iterable[Group]) -> None:
        """Note what stands still after a step; what arrived until then is known by this."""
        jsonl.write(self._unfinished, [{"step": step}, *(group.to_json() for group in groups)])
        for path in self.folder.glob(arrivals("*")):
            if step_of(path) <= step:
                path.unlink()

    def recover(self, step: int, drawn: Mapping[int, Sequence[Group]]) -> list[Group]:
        """What stood still after a step, or was under way when the process ended.

        ``drawn`` are the groups begun at the steps that are done again, and at the one after.
        """
        rows = list(jsonl.read(self._unfinished)) if self._unfinished.exists() else []
        noted = rows[0]["step"] if rows else 0
        if noted > step:  # of a later step whose own record is gone
            noted, rows = step, []
        groups = {row["number"]: Group.from_json(row) for row in rows[1:]}
        for later in range(noted + 1, step + 2):
            groups |= {group.number: group for group in drawn.get(later, ())}
        for later in range(noted + 1, step + 2):
            for path in sorted(self.folder.glob(arrivals(later))):
                for row in jsonl.read(path):
                    group = groups.get(row["group"])
                    if group is not None and group.task.id == row["trace"]["task_id"]:
                        group.finished[row["rollout"]] = Trace.from_json(row["trace"])
                        group.paused.pop(row["rollout"], None)
        for later in range(noted + 1, step + 1):
            for group in self.batch(later) or ():
                groups.pop(group.number, None)
        return list(groups.values())

    def forget(self, up_to_step: int) -> None:
        """Remove the batches of steps up to this one."""
        for path in self.folder.glob("step-*.jsonl"):
            if step_of(path) <= up_to_step:
                path.unlink()

    def forget_after(self, step: int) -> None:
        """Remove what there is of later steps: it belongs to a course of the run that is not gone on with."""
        for path in (*self.folder.glob("step-*.jsonl"), *self.folder.glob(arrivals("*"))):
            if step_of(path) > step:
                path.unlink()

    @property
    def _unfinished(self) -> Path:
        return self.folder / "unfinished.jsonl"

    def _batch(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.jsonl"


def read_batch(path: Path) -> list[Group]:
    """The groups of a file ``step-N.jsonl``."""
    groups: dict[int, Group] = {}
    for row in jsonl.read(path):
        group, rollout = row.pop("group"), row.pop("rollout")
        if "task" in group:
            groups[group["number"]] = Group.from_json(group)
        groups[group["number"]].finished[rollout] = Trace.from_json(row)
    return list(groups.values())


def _rows(group: Group) -> Iterator[JSON]:
    """Its traces, each with its place; the first tells the group as well."""
    told = replace(group, finished={}, paused={}).to_json()
    for k, trace in sorted(group.finished.items()):
        yield {**trace.to_json(), "group": told, "rollout": k}
        told = {"number": group.number}
