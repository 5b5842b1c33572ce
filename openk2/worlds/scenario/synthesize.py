"""Write long trajectories by the thousand: tasks over evolved apps, gated, played, judged; kept or rejected with a reason.

Everything follows from the config and an index, so work is shared out by index alone. A record is appended whole; a run
that was killed goes on behind its last record, and the files end the same to the byte, whoever wrote how much of them.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openk2.jobs import jsonl
from openk2.jobs.atomic import read_json, write_json
from openk2.jobs.funnel import Funnel
from openk2.jobs.ordered import Where, ordered_map
from openk2.schema import JSON, Task
from openk2.worlds.endpoint.config import SynthesisEndpoint
from openk2.worlds.evolve.author import AppId, ScriptedAuthor, app_ids
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.execution import record as executed
from openk2.worlds.execution.exercise import task_id
from openk2.worlds.execution.tasks import Family, make_task
from openk2.worlds.scenario.conversation import Scenario
from openk2.worlds.scenario.faults import FaultRates
from openk2.worlds.scenario.gates import failed_gate
from openk2.worlds.scenario.places import Place
from openk2.worlds.scenario.record import play
from openk2.worlds.scenario.write import ScenarioConfig, write_scenario

STAGES = ("task", "gates", "judge")
KEPT, REJECTED, FUNNEL = "trajectories.jsonl", "rejects.jsonl", "funnel.json"
_CHUNK, _EXECUTED_CHUNK = 20, 2  # tasks a worker takes at a time
_LIMIT_S = 120.0  # for one chunk
_HEAD = ("id", "stage", "reason")
# Who does the work, and how much there is of it, changes no record.
_OUTSIDE = {"executor", "num_workers", "num_tasks", "license"}


class SynthesisConfig(BaseModel):
    """What is written, and who writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("synthesis", pattern=r"^\w[\w.-]*$", description="Name of the run; its files go to runs/NAME.")
    evolve: EvolveConfig = Field(EvolveConfig(), description="The apps.")
    scenario: ScenarioConfig = Field(ScenarioConfig(), description="The tasks over them.")
    faults: FaultRates = Field(FaultRates(), description="How rough the world is.")
    split: str = Field(
        "train", pattern=r"^\w+$", description="Name of the split; values of 'train' never appear in others."
    )
    num_tasks: int = Field(5000, ge=1, description="Tasks.")
    trajectories_per_task: int = Field(4, ge=1, description="Trajectories of each, with other faults and mistakes.")
    sloppiness: float = Field(0.15, ge=0, le=1, description="Share of trajectories in which the teacher errs.")
    executor: Where = Field("processes", description="Where the work is done: here, processes, ray.")
    num_workers: int | None = Field(None, ge=1, description="Processes; None for one a core.")
    license: str = Field("apache-2.0", min_length=1, description="Licence that the dataset's card states.")
    endpoint: SynthesisEndpoint | None = Field(
        None, description="A chat endpoint that plays parts; none: all is scripted (see worlds.endpoint.synthesize)."
    )
    execution: tuple[Family, ...] = Field(
        (), description="Tasks that really run, of these families by turns, instead of tasks over apps."
    )

    @model_validator(mode="after")
    def _endpoint_has_a_part(self) -> SynthesisConfig:
        if self.execution and self.endpoint is not None:
            raise ValueError("endpoint: it plays no part in execution's tasks; leave one of the two out")
        return self

    @property
    def chunk(self) -> int:
        """Tasks a worker takes at a time."""
        return _EXECUTED_CHUNK if self.execution else _CHUNK


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
    if config.execution:
        task, num = execution_task(config, index), config.trajectories_per_task
        yield from asyncio.run(executed.records_of(task, num=num, sloppiness=config.sloppiness, recipe=config.name))
        return
    scenario = gated(config, index, functools.partial(scenario_of, config, index))
    if isinstance(scenario, dict):
        yield scenario
        return
    for number in range(config.trajectories_per_task):
        yield play(
            scenario, number=number, seed=config.scenario.seed, rates=config.faults, sloppiness=config.sloppiness,
            recipe=config.name,
        )  # fmt: skip


def execution_task(config: SynthesisConfig, index: int) -> Task:
    """Task ``index`` of a run over tasks that really run."""
    family, number = _turn(config, index)
    return make_task(family, config.split, number, seed=config.scenario.seed)


def _turn(config: SynthesisConfig, index: int) -> tuple[Family, int]:
    """The family of task ``index``, as they take turns, and its number there."""
    number, turn = divmod(index, len(config.execution))
    return config.execution[turn], number


def gated(config: SynthesisConfig, index: int, write: Callable[[], Scenario]) -> Scenario | JSON:
    """Task ``index`` as ``write`` makes it; or, where there is none or a gate turns it away, the reject."""
    name = task_name(config, index)
    try:
        scenario = write()
    except ValueError as error:
        return {"id": name, "stage": "task", "reason": str(error)}
    if (gate := failed_gate(scenario)) is not None:
        return {"id": name, "stage": "gates", "reason": gate, "task": scenario.to_task().to_json()}
    return scenario


def task_name(config: SynthesisConfig, index: int) -> str:
    """The id of a task; a trajectory's has #NUMBER behind it."""
    if config.execution:
        family, number = _turn(config, index)
        return task_id(family, config.split, number)
    return f"{config.split}-{index:06d}"


def synthesize(config: SynthesisConfig, out_dir: Path, on_progress: Callable[[Progress], None] | None = None) -> Funnel:
    """Write ``trajectories.jsonl``, ``rejects.jsonl`` and ``funnel.json``, or go on where an earlier run stopped.

    Raises ValueError for a folder that holds records of another config.
    """
    claim(config, out_dir)
    funnel = Funnel()
    done: set[str] = set()
    for file in (KEPT, REJECTED):
        if (out_dir / file).exists():
            for record in settled(out_dir / file):
                done.add(record["id"])
                count(funnel, record, STAGES)
    work = functools.partial(_chunk, config)
    starts = range(0, config.num_tasks, config.chunk)
    began, written = time.monotonic(), 0
    with jsonl.Appender(out_dir / KEPT) as kept, jsonl.Appender(out_dir / REJECTED) as rejected:
        todo = (start for start in starts if not _is_done(config, start, done))
        for start, lines in ordered_map(
            work, todo, where=config.executor, num_workers=config.num_workers, limit_s=_LIMIT_S
        ):
            for head, line in lines:
                if head["id"] not in done:
                    (rejected if "stage" in head else kept).write_line(line)
                    count(funnel, head, STAGES)
                    written += 1
            if on_progress is not None:
                turned_away = sum(reasons.total() for reasons in funnel.rejected.values())
                rate = written / max(time.monotonic() - began, 1e-9)
                on_progress(
                    Progress(min(start + config.chunk, config.num_tasks), funnel.kept["judge"], turned_away, rate)
                )
    write_json(out_dir / FUNNEL, funnel.to_json())
    return funnel


def settled(path: Path) -> Iterator[JSON]:
    """The records of an earlier run. Raises ValueError, naming the line, for what is none."""
    for number, record in enumerate(jsonl.read(path), start=1):
        if not isinstance(record.get("id"), str):
            raise ValueError(f"{path}:{number}: a record without an id; the file has been changed")
        yield record


def count(funnel: Funnel, record: JSON, stages: Sequence[str]) -> None:
    """Note how far a record came. A task counts with each of its trajectories."""
    stage = record.get("stage")
    for passed in stages[: stages.index(stage)] if stage else stages:
        funnel.keep(passed)
    if stage:
        funnel.reject(stage, record["reason"])


def claim(config: SynthesisConfig, out_dir: Path) -> None:
    """Leave the config beside the records. Raises ValueError for a folder that holds records of another one."""
    place = out_dir / "config.json"
    if place.exists():
        try:
            earlier = SynthesisConfig.model_validate(read_json(place))
        except ValidationError:
            earlier = None
        if earlier is None or _what_matters(earlier) != _what_matters(config):
            raise ValueError(f"{out_dir} holds records of another config ({place}): choose another name, or remove it")
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(place, config.model_dump(mode="json", exclude=_OUTSIDE))


def _what_matters(config: SynthesisConfig) -> tuple[JSON, Any]:
    """What records follow from. Of an endpoint that is its model and parts, not where it runs or how it is asked."""
    endpoint = config.endpoint
    asked = endpoint and (endpoint.model, {*endpoint.plays}, endpoint.temperature, endpoint.max_tokens, endpoint.extra)
    return config.model_dump(mode="json", exclude={*_OUTSIDE, "endpoint"}), asked


def _chunk(config: SynthesisConfig, start: int) -> tuple[int, list[tuple[JSON, bytes]]]:
    """The records of some tasks, as lines: whoever collects them has little to do. Beside each what the funnel asks for."""
    stop = min(start + config.chunk, config.num_tasks)
    records = (record for index in range(start, stop) for record in records_of(config, index))
    return start, [({key: record[key] for key in _HEAD if key in record}, jsonl.encode(record)) for record in records]


def _is_done(config: SynthesisConfig, start: int, done: set[str]) -> bool:
    """Whether every task of a chunk has its last record."""
    last = config.trajectories_per_task - 1
    names = (task_name(config, index) for index in range(start, min(start + config.chunk, config.num_tasks)))
    return all(name in done or f"{name}#{last}" in done for name in names)


@functools.cache
def _ids(config: EvolveConfig) -> list[AppId]:
    return list(app_ids(config))


@functools.lru_cache(maxsize=1000)
def _place(config: EvolveConfig, app_id: AppId) -> Place:
    return Place(ScriptedAuthor(config).author(app_id))
