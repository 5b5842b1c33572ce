"""A folder of trajectories in another library's format: a file for each split, and a card."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from openk2.data.export import formats, parquet
from openk2.data.export.card import Census, card
from openk2.jobs import jsonl
from openk2.jobs.atomic import read_json, write_json, write_text
from openk2.schema import JSON
from openk2.view.trajectories.record import Trajectory
from openk2.view.trajectories.sources import open_sources

CONVERTERS: dict[str, Callable[[JSON], JSON]] = {
    "openai": formats.to_openai,
    "trl": formats.to_trl,
    "llamafactory": formats.to_llamafactory,
}
_SPLIT = re.compile(r"\w+(\.\w+)*", re.ASCII)  # what `datasets` takes, and what is safe as a file's name


class Writer(Protocol):
    """One file being written."""

    def write(self, record: dict[str, Any]) -> None:
        """Add a row."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


def write_export(path: Path, out: Path, form: str) -> str:
    """Write the trajectories of ``path`` to the new folder ``out``; returns a line on what was written.

    ``form`` is ``openai``, ``trl``, ``llamafactory`` or ``parquet``. Training formats take what was kept; parquet takes
    rejects too, as a split of their own. What a format has no words for is left out, and counted in line and card.
    Raises ValueError when ``out`` exists, for a bad record, and when nothing is left.
    """
    if out.exists():
        raise ValueError(f"{out} exists: name a folder that does not")
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    beside.mkdir(parents=True)
    try:
        census, files = _write_files(path, beside, form)
        if not files:
            raise ValueError(f"{path}: nothing can be written as {form}: {_counts(census)}")
        funnel = path / "funnel.json"
        told = card(path.stem, census, files, read_json(funnel) if funnel.is_file() else None)
        write_text(beside / "README.md", told)
        if form == "llamafactory":
            info = {f"{path.stem}_{split}": {"file_name": file, **formats.INFO} for split, file in files.items()}
            write_json(beside / "dataset_info.json", info)
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return f"{out}: {census.by_split.total()} trajectories as {form}, {_counts(census)}"


def write_twin(folder: Path, name: str, licence: str) -> str:
    """Parquet files of a folder's trajectories (in ``parquet``) and the card (``README.md``), beside the records.

    Made anew each time. ``licence`` is stated where no record states one. Returns a line on what was written.
    """
    beside, twin = folder / f".parquet.{os.getpid()}.part", folder / "parquet"
    beside.mkdir()
    try:
        census, files = _write_files(folder, beside, "parquet")
        census.licences = census.licences or {licence}
        shutil.rmtree(twin, ignore_errors=True)
        beside.rename(twin)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    files = {split: f"{twin.name}/{file}" for split, file in files.items()}
    write_text(folder / "README.md", card(name, census, files, read_json(folder / "funnel.json")))
    return f"{folder / 'README.md'}: the dataset's card; {twin}: the same as parquet, {_counts(census)}"


def _write_files(path: Path, folder: Path, form: str) -> tuple[Census, dict[str, str]]:
    census, files, writers = Census(), dict[str, str](), dict[str, Writer]()
    convert = CONVERTERS.get(form)
    with ExitStack() as stack:
        for trajectory in _records(path):
            if convert is not None and trajectory.stage is not None:
                continue
            split = _split_of(trajectory)
            try:
                row = trajectory.to_json() if convert is None else convert(_conversation(trajectory))
            except formats.UnfitError as unfit:
                census.left_out[str(unfit)] += 1
                continue
            if split not in writers:
                files[split] = f"{split}.parquet" if convert is None else f"{split}.jsonl"
                at = folder / files[split]
                writers[split] = parquet.Writer(at) if convert is None else jsonl.Appender(at)
                stack.callback(writers[split].close)
            writers[split].write(row)
            census.add(trajectory, split)
    return census, files


def _records(path: Path) -> Any:
    return (trajectory for source in open_sources(path) for trajectory, _ in source.scan())


def _conversation(trajectory: Trajectory) -> JSON:
    whole = trajectory.to_json()
    return {"messages": whole["messages"], "tools": whole.get("tools", [])}


def _split_of(trajectory: Trajectory) -> str:
    split = "rejects" if trajectory.stage is not None else trajectory.split or "train"
    if not _SPLIT.fullmatch(split):
        raise ValueError(f"{trajectory.id}: {split!r} cannot be a split's name: letters, digits, _ and . between them")
    return split


def _counts(census: Census) -> str:
    splits = ", ".join(f"{split} {num}" for split, num in census.by_split.items())
    left = "; ".join(f"{num} left out: {reason}" for reason, num in census.left_out.most_common())
    return "; ".join(part for part in (splits, left) if part) or "every record is a reject"
