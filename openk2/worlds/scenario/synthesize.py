"""Write long trajectories by the thousand: tasks over evolved apps, gated, played, judged; kept or rejected with a reason.

Everything follows from the config and an index, so work is shared out by index alone. A record is appended whole; a run
that was killed goes on behind its last record, and the files end the same to the byte, whoever wrote how much of them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict, Field

from openk2.jobs import jsonl
from openk2.jobs.atomic import read_json, write_json
from openk2.jobs.funnel import Funnel
from openk2.jobs.ordered import Where, ordered_map
from openk2.schema import JSON
from openk2.worlds.evolve.author import AppId, ScriptedAuthor, app_ids
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.scenario.conversation import Scenario
from openk2.worlds.scenario.faults import FaultRates
from openk2.worlds.scenario.gates import failed_gate
from openk2.worlds.scenario.goals import Place
from openk2.worlds.scenario.record import play
from openk2.worlds.scenario.write import ScenarioConfig, write_scenario

STAGES = ("task", "gates", "judge")
KEPT, REJECTED, FUNNEL = "trajectories.jsonl", "rejects.jsonl", "funnel.json"
_CHUNK = 20  # tasks a worker takes at a time
_LIMIT_S = 120.0  # for one chunk


class SynthesisConfig(BaseModel):
    """What is written, and who writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("synthesis", description="Name of the run; its files go to runs/NAME.")
    evolve: EvolveConfig = Field(EvolveConfig(), description="The apps.")
    scenario: ScenarioConfig = Field(ScenarioConfig(), description="The tasks over them.")
    faults: FaultRates = Field(FaultRates(), description="How rough the world is.")
    split: str = Field("train", description="Name of the split; values of 'train' never appear in others.")
    num_tasks: int = Field(5000, ge=1, description="Tasks.")
    trajectories_per_task: int = Field(4, ge=1, description="Trajectories of each, with other faults and mistakes.")
    sloppiness: float = Field(0.15, ge=0, le=1, description="Share of trajectories in which the teacher errs.")
    executor: Where = Field("processes", description="Where the work is done: here, processes, ray.")
    num_workers: int | None = Field(None, ge=1, description="Processes; None for one a core.")


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    tasks: int
    kept: int
    rejected: int
    per_second: float


def scenario_of(config: SynthesisConfig, index: int) -> Scenario:
    """Task ``index``. Raises ValueError where its apps allow no goal."""
    ids = _ids(config.evolve)
    rng = Random(f"apps/{config.scenario.seed}/{config.split}/{index}")
    chosen = rng.sample(ids, rng.randint(*config.scenario.num_apps))
    return write_scenario(config.scenario, config.split, index, [_place(config.evolve, app_id) for app_id in chosen])


def records_of(config: SynthesisConfig, index: int) -> Iterator[JSON]:
    """All records of a task: its trajectories, or one reject when the task itself is none."""
    name = f"{config.split}-{index:06d}"
    try:
        scenario = scenario_of(config, index)
    except ValueError as error:
        yield {"id": name, "stage": "task", "reason": str(error)}
        return
    if (gate := failed_gate(scenario)) is not None:
        yield {"id": name, "stage": "gates", "reason": gate, "task": scenario.to_task().to_json()}
        return
    for number in range(config.trajectories_per_task):
        yield play(
            scenario, number=number, seed=config.scenario.seed, rates=config.faults, sloppiness=config.sloppiness,
            recipe=config.name,
        )  # fmt: skip


def synthesize(config: SynthesisConfig, out_dir: Path, on_progress: Callable[[Progress], None] | None = None) -> Funnel:
    """Write ``trajectories.jsonl``, ``rejects.jsonl`` and ``funnel.json``, or go on where an earlier run stopped.

    Raises ValueError for a folder that holds records of another config.
    """
    _claim(config, out_dir)
    funnel = Funnel()
    done: set[str] = set()
    for file in (KEPT, REJECTED):
        if (out_dir / file).exists():
            for record in jsonl.read(out_dir / file):
                done.add(record["id"])
                _count(funnel, record)
    work = functools.partial(_chunk, config)
    starts = range(0, config.num_tasks, _CHUNK)
    began, written = time.monotonic(), 0
    with jsonl.Appender(out_dir / KEPT) as kept, jsonl.Appender(out_dir / REJECTED) as rejected:
        todo = (start for start in starts if not _is_done(config, start, done))
        for start, records in ordered_map(
            work, todo, where=config.executor, num_workers=config.num_workers, limit_s=_LIMIT_S
        ):
            for record in records:
                if record["id"] not in done:
                    (rejected if "stage" in record else kept).write(record)
                    _count(funnel, record)
                    written += 1
            if on_progress is not None:
                turned_away = sum(reasons.total() for reasons in funnel.rejected.values())
                rate = written / max(time.monotonic() - began, 1e-9)
                on_progress(Progress(min(start + _CHUNK, config.num_tasks), funnel.kept["judge"], turned_away, rate))
    write_json(out_dir / FUNNEL, funnel.to_json())
    return funnel


def _count(funnel: Funnel, record: JSON) -> None:
    """Note how far a record came. A task counts with each of its trajectories."""
    stage = record.get("stage")
    for passed in STAGES[: STAGES.index(stage)] if stage else STAGES:
        funnel.keep(passed)
    if stage:
        funnel.reject(stage, record["reason"])


def _claim(config: SynthesisConfig, out_dir: Path) -> None:
    """Leave the config beside the records; a folder that holds another one is refused."""
    place = out_dir / "config.json"
    # Who does the work, and how much there is of it, changes no record.
    wanted = config.model_dump(mode="json", exclude={"executor", "num_workers", "num_tasks"})
    if place.exists():
        if read_json(place) != wanted:
            raise ValueError(f"{out_dir} holds records of another config ({place}): choose another name, or remove it")
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(place, wanted)


def _chunk(config: SynthesisConfig, start: int) -> tuple[int, list[JSON]]:
    stop = min(start + _CHUNK, config.num_tasks)
    return start, [record for index in range(start, stop) for record in records_of(config, index)]


def _is_done(config: SynthesisConfig, start: int, done: set[str]) -> bool:
    """Whether every task of a chunk has its last record."""
    last = config.trajectories_per_task - 1
    names = (f"{config.split}-{index:06d}" for index in range(start, min(start + _CHUNK, config.num_tasks)))
    return all(name in done or f"{name}#{last}" in done for name in names)


@functools.cache
def _ids(config: EvolveConfig) -> list[AppId]:
    return list(app_ids(config))


@functools.lru_cache(maxsize=1000)
def _place(config: EvolveConfig, app_id: AppId) -> Place:
    return Place(ScriptedAuthor(config).author(app_id))
