"""The runs of a study: some at a time, each kept once it is finished, so that a stopped study goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from openk2.jobs.atomic import read_json, write_json
from openk2.jobs.lifeline import end_with_parent

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing to compare. What a study's arms differ in are fields with defaults."""

    name: str


class Kept(BaseModel):
    """What every run returns, where it comes back from a file; a study says what else belongs to it."""

    arm: dict[str, Any]
    seed: int
    num_steps: int


A = TypeVar("A", bound=Arm)


def carry_out(
    folder: Path,
    run: Callable[[A, int, int], Result],
    arms: Sequence[A],
    *,
    num_seeds: int,
    num_steps: int,
    kept: type[Kept],
    tell: Callable[[Result], str],
    say: Callable[[str], None],
    at_once: int | None = None,
) -> list[Result]:
    """``run(arm, seed, num_steps)`` for every arm on every seed, each in a process; results are kept in ``folder``.

    A run that is there already, of the same length and settings, is not run again. ``run`` and the arms travel to the
    processes, so they must pickle. ``tell`` sums a result up in some words. ``at_once`` is by default the number of cores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(arm, seed) for seed in range(num_seeds) for arm in arms]
    results = {(arm.name, seed): _finished(folder, kept, arm, seed, num_steps) for arm, seed in wanted}
    missing = [(arm, seed) for arm, seed in wanted if results[arm.name, seed] is None]
    if len(missing) < len(wanted):
        say(f"{len(wanted) - len(missing)} of {len(wanted)} runs are there already ({folder})")
    began = time.perf_counter()
    with ProcessPoolExecutor(at_once or os.cpu_count(), get_context("spawn"), initializer=end_with_parent) as pool:
        # Ctrl-C is for the parent, which ends its children: they are born deaf to it.
        listening = signal.signal(signal.SIGINT, signal.SIG_IGN)
        futures: dict[Future[Result], tuple[A, int]] = {
            pool.submit(run, arm, seed, num_steps): (arm, seed) for arm, seed in missing
        }
        signal.signal(signal.SIGINT, listening)
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                arm, seed = futures[future]
                result = results[arm.name, seed] = future.result()
                write_json(folder / f"{file_name(arm, seed)}.json", result)
                left = (time.perf_counter() - began) / number * (len(missing) - number)
                say(f"[{number}/{len(missing)}] {arm.name}, seed {seed}: {tell(result)}; {left / 60:.0f} min left")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise
    return [result for result in results.values() if result is not None]


def file_name(arm: Arm, seed: int) -> str:
    """A run's name in letters that every file system takes."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    return f"{plain}-seed-{seed}"


def _finished(folder: Path, kept: type[Kept], arm: Arm, seed: int, num_steps: int) -> Result | None:
    place = folder / f"{file_name(arm, seed)}.json"
    if not place.exists():
        return None
    result: Result = read_json(place)
    try:
        stored = kept.model_validate(result)
    except ValidationError as error:
        fault = error.errors()[0]
        what = ".".join(map(str, fault["loc"])) or "all of it"
        raise ValueError(
            f"{place} is no result of this study ({what}: {fault['msg']}); remove it to have that run done again"
        ) from error
    # What an arm of an earlier version does not say is as by default.
    same = (asdict(type(arm)(arm.name)) | stored.arm) == asdict(arm) and stored.num_steps == num_steps
    return result if same else None
