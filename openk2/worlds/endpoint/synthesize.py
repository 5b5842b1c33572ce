"""Long trajectories in which a chat endpoint writes apps, words the users, plays the agent or judges manner (K2 §3.1).

The same tasks, gates, worlds and programmatic rubric as the scripted run; a model's word alone never keeps a record. One
record a trajectory, kept or rejected with stage and reason, appended whole: a run that was killed asks only for what is
missing. What got no answer is a reject that the next run asks for again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import get_args

import openk2
from openk2.jobs import jsonl
from openk2.jobs.atomic import read_json, write_json
from openk2.jobs.executor import Outcome, run_jobs
from openk2.jobs.funnel import Funnel
from openk2.llm.endpoint import Endpoint, EndpointError
from openk2.schema import JSON, Rubric, Sampling
from openk2.worlds.endpoint import teacher
from openk2.worlds.endpoint.author import author_apps
from openk2.worlds.endpoint.config import Part, SynthesisEndpoint
from openk2.worlds.endpoint.judge import EndpointJudge, calibration
from openk2.worlds.endpoint.rephrase import rephrase
from openk2.worlds.endpoint.soft import SUCCEEDED, labelled, soft_items
from openk2.worlds.evolve.author import AppId, app_ids
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.places import Place
from openk2.worlds.scenario.record import record_of, seed_of
from openk2.worlds.scenario.synthesize import (
    FUNNEL,
    KEPT,
    REJECTED,
    Progress,
    SynthesisConfig,
    claim,
    count,
    gated,
    scenario_of,
    settled,
    task_name,
)
from openk2.worlds.scenario.teacher import Teacher
from openk2.worlds.scenario.write import write_scenario

STAGES = ("task", "gates", "endpoint", "user", "teacher", "judge")
NO_ANSWER = "no answer"
JUDGE = "judge.json"
_GIVE_UP = 4  # windows of trajectories without an answer, and the endpoint is taken to be gone
log = logging.getLogger(__name__)


def synthesize(config: SynthesisConfig, out_dir: Path, on_progress: Callable[[Progress], None] | None = None) -> Funnel:
    """Write ``trajectories.jsonl``, ``rejects.jsonl``, ``funnel.json``, and ``judge.json`` where the endpoint judges; or go on.

    Raises ValueError for a config without an endpoint, for a folder that holds records of another one, and where the endpoint
    has given no answer so often in a row that it is taken to be gone: then there are records of all that was tried.
    """
    if config.endpoint is None:
        raise ValueError("endpoint: missing; it says which chat model plays along")
    claim(config, out_dir)
    return asyncio.run(_synthesize(config, config.endpoint, out_dir, on_progress))


async def _synthesize(
    config: SynthesisConfig, asked: SynthesisEndpoint, out_dir: Path, on_progress: Callable[[Progress], None] | None
) -> Funnel:
    funnel, done = _earlier(out_dir)
    async with Endpoint(asked) as endpoint:
        run = _Run(config, asked, endpoint)
        if "apps" in asked.plays:
            await run.author(out_dir / "apps", funnel)
        if "judge" in asked.plays:
            await _calibrate(run, out_dir)
        stopped = await _write(run, run.left(done), asked, out_dir, funnel, on_progress)
        log.info("the endpoint: %s", endpoint.counters.to_json())
    write_json(out_dir / FUNNEL, funnel.to_json())
    if "judge" in asked.plays:
        _write_judge(out_dir, asked.model, read_json(out_dir / JUDGE)["calibration"])
    if stopped:
        raise ValueError(f"{stopped}, so the run stops; the same command goes on")
    return funnel


async def _write(
    run: _Run, left: Iterator[Job], asked: SynthesisEndpoint, out_dir: Path, funnel: Funnel,
    on_progress: Callable[[Progress], None] | None,
) -> str:  # fmt: skip
    """Append records as they come. Returns why it stopped before the last one, or nothing."""
    began, written, silent = time.monotonic(), 0, 0
    jobs = run_jobs(run.play, left, num_workers=asked.max_in_flight, limit_s=asked.trajectory_s)
    async with aclosing(jobs):
        with jsonl.Appender(out_dir / KEPT) as kept, jsonl.Appender(out_dir / REJECTED) as rejected:
            async for outcome in jobs:
                record = run.record(outcome)
                (rejected if "stage" in record else kept).write(record)
                count(funnel, record, STAGES)
                written += 1
                if on_progress is not None:
                    turned_away = sum(funnel.rejected.get(stage, Counter()).total() for stage in STAGES)
                    rate = written / max(time.monotonic() - began, 1e-9)
                    on_progress(Progress(outcome.item.index + 1, funnel.kept["judge"], turned_away, rate))
                silent = silent + 1 if outcome.error else 0
                if silent == _GIVE_UP * asked.max_in_flight:
                    return f"no answer {silent} times in a row (the last: {outcome.error})"
    return ""


def _earlier(out_dir: Path) -> tuple[Funnel, set[str]]:
    """What an earlier run settled. Rejects without an answer are dropped: they are asked for again."""
    funnel, done = Funnel(), set[str]()
    rejects = out_dir / REJECTED
    if rejects.exists():
        kept = [record for record in settled(rejects) if record["reason"] != NO_ANSWER]
        jsonl.write(rejects, kept)
    for path in (out_dir / KEPT, rejects):
        for record in settled(path) if path.exists() else ():
            done.add(record["id"])
            count(funnel, record, STAGES)
    return funnel, done


@dataclass(frozen=True, slots=True)
class Job:
    """A trajectory to be made; or a task that is none, with the reject that says why."""

    index: int
    number: int
    task: Scenario | JSON


class _Run:
    """Who writes, speaks, acts and judges, and the tasks they do it in."""

    def __init__(self, config: SynthesisConfig, asked: SynthesisEndpoint, endpoint: Endpoint) -> None:
        self._config, self._asked, self._endpoint = config, asked, endpoint
        self._ids = list(app_ids(config.evolve))
        self._places: dict[AppId, Place | None] = {}
        players = {part: "endpoint" if part in asked.plays else "scripted" for part in get_args(Part)}
        self._made: JSON = {
            "author": players["apps"],
            "version": openk2.__version__,
            "recipe": config.name,
            "users": players["users"],
            "teacher": players["teacher"],
            "judge": "endpoint" if "judge" in asked.plays else "program",
            "model": asked.model,
        }

    @property
    def endpoint(self) -> Endpoint:
        """Whom it asks."""
        return self._endpoint

    @property
    def num_calibration(self) -> int:
        """Episodes to measure the judge on."""
        return self._asked.num_calibration

    async def author(self, folder: Path, funnel: Funnel) -> None:
        """Have the apps written, or read those of an earlier run."""
        apps = await author_apps(
            self._endpoint, self._ids, folder, self._sampling("apps"), num_workers=self._asked.max_in_flight,
            limit_s=self._asked.trajectory_s,
        )  # fmt: skip
        self._places = {app_id: None if app is None else Place(app) for app_id, app in apps.items()}
        for app_id in self._ids:
            if app_id not in apps:
                funnel.reject("apps", NO_ANSWER)
            elif apps[app_id] is None:
                funnel.reject("apps", "refused by the check")
            else:
                funnel.keep("apps")

    def task(self, index: int) -> Scenario | JSON:
        """Task ``index``, gated; or the reject."""
        if "apps" not in self._asked.plays:
            return gated(self._config, index, functools.partial(scenario_of, self._config, index))
        try:
            places = self._drawn(index)
        except ValueError as error:
            return {"id": task_name(self._config, index), "stage": "task", "reason": str(error)}
        if places is None:
            return {"id": task_name(self._config, index), "stage": "endpoint", "reason": NO_ANSWER}
        config = self._config
        return gated(config, index, lambda: write_scenario(config.scenario, config.split, index, places))

    def _drawn(self, index: int) -> list[Place] | None:
        """The apps of a task: the first in an order of its own that were not refused. None where one is still unwritten.

        So a task is the same whether its apps were written in this run or in an earlier one.
        """
        rng = Random(f"apps/{self._config.scenario.seed}/{self._config.split}/{index}")
        num_apps = rng.randint(*self._config.scenario.num_apps)
        places = []
        for app_id in rng.sample(self._ids, len(self._ids)):
            if app_id not in self._places:
                return None
            if (place := self._places[app_id]) is not None:
                places.append(place)
            if len(places) == num_apps:
                return places
        if not places:
            raise ValueError("every app was refused")
        return places

    def left(self, done: set[str]) -> Iterator[Job]:
        """What has no record yet."""
        for index in range(self._config.num_tasks):
            name = task_name(self._config, index)
            numbers = [n for n in range(self._config.trajectories_per_task) if f"{name}#{n}" not in done]
            if name in done or not numbers:
                continue
            task = self.task(index)
            for number in numbers[:1] if isinstance(task, dict) else numbers:
                yield Job(index, number, task)

    async def play(self, job: Job) -> JSON:
        """One trajectory as a record. Raises EndpointError or TimeoutError where the endpoint gives no answer."""
        if isinstance(job.task, dict):
            return job.task
        plays, scenario, lines = self._asked.plays, job.task, list[str]()
        sampling = self._sampling(f"{scenario.id}#{job.number}")
        if "users" in plays:
            lines = [turn.say for turn in scenario.turns]
            said = await rephrase(self._endpoint, scenario, sampling)
            if said.scenario is None:
                attempts = [attempt.to_json() for attempt in said.attempts]
                user = scenario.user.to_json() | {"turn": said.turn, "attempts": attempts}
                return self._reject(scenario, job.number, "user", said.reason) | {"user": user}
            scenario = said.scenario
        seed = seed_of(scenario, job.number, self._config.scenario.seed)
        with closing(Conversation(scenario, seed, self._config.faults)) as conversation:
            if "teacher" in plays:
                messages = await teacher.play(self._endpoint, conversation, sampling)
            else:
                messages = Teacher(scenario, seed=seed, sloppiness=self._config.sloppiness).play(conversation)
            world, made, rubric = conversation.world, dict(self._made), scenario.rubric
            rows = world.rows()
            score = conversation.score(rows)
            if "judge" in plays and conversation.ended and score.passed:
                judging = EndpointJudge(self._endpoint)
                rubric = Rubric((*rubric.items, *soft_items(scenario, lines)))
                score = await judging.score(rubric, world.initial, rows, world.log, messages, conversation.answers)
                made |= {"asked": judging.num_asked, "unparsable": judging.num_unparsable}
            record = record_of(conversation, job.number, messages, rows, rubric, score, made)
        return record if conversation.ended else record | {"stage": "teacher", "reason": "came to no end"}

    def record(self, outcome: Outcome[Job, JSON]) -> JSON:
        """What became of a job. Raises an error that is none of the endpoint's."""
        if outcome.value is not None:
            return outcome.value
        assert outcome.error is not None, "a job without a record has an error"
        if not isinstance(outcome.error, EndpointError | TimeoutError):
            raise outcome.error
        assert isinstance(outcome.item.task, Scenario), "a task that is none asks nobody"
        record = self._reject(outcome.item.task, outcome.item.number, "endpoint", NO_ANSWER)
        why = str(outcome.error) or f"nothing whole within {self._asked.trajectory_s:g} s"
        return record | {"provenance": self._made | {"error": why}}

    def _reject(self, scenario: Scenario, number: int, stage: str, reason: str) -> JSON:
        return {
            "id": f"{scenario.id}#{number}",
            "split": scenario.split,
            "kind": scenario.kind,
            "tags": list(scenario.tags),
            "agent": scenario.agent.to_json(),
            "user": scenario.user.to_json(),
            "provenance": self._made,
            "stage": stage,
            "reason": reason,
        }

    def _sampling(self, name: str) -> Sampling:
        """Draws of different names differ, the same one comes again from the cache."""
        seed = zlib.crc32(f"{self._config.scenario.seed}/{name}".encode()) >> 1
        return Sampling(temperature=self._asked.temperature, max_tokens=self._asked.max_tokens, seed=seed)


# -- how far to trust the judge ---------------------------------------------------------------


async def _calibrate(run: _Run, out_dir: Path) -> None:
    """Ask the judge about episodes whose outcome a program knows, once a folder; without answers, in the next run."""
    if (out_dir / JUDGE).exists() and read_json(out_dir / JUDGE)["calibration"] is not None:
        return
    tasks = (task for task in map(run.task, range(2 * run.num_calibration)) if isinstance(task, Scenario))
    cases = labelled(tasks, run.num_calibration)
    found = None
    if cases:
        try:
            measured = await calibration(EndpointJudge(run.endpoint), cases)
            found = {"statement": SUCCEEDED, "episodes": len(cases)} | measured.to_json()
        except (EndpointError, TimeoutError) as error:
            log.warning("the judge is not calibrated, a later run asks again: %s", error)
    _write_judge(out_dir, run.endpoint.config.model, found)


def _write_judge(out_dir: Path, model: str, calibrated: JSON | None) -> None:
    """``judge.json``: the calibration, how often each soft item held, and how many verdicts could not be read."""
    held, asked = Counter[str](), Counter[str]()
    num_asked = num_unparsable = 0
    for path in (out_dir / KEPT, out_dir / REJECTED):
        for record in settled(path) if path.exists() else ():
            made = record.get("provenance", {})
            if "asked" not in made:
                continue
            num_asked, num_unparsable = num_asked + made["asked"], num_unparsable + made["unparsable"]
            soft = [item["name"] for item in record["rubric"]["items"] if item["check"] == "judged"]
            asked.update(soft)
            held.update(name for name in soft if record["score"]["parts"][name] == 1)
    items = {name: {"held": held[name], "asked": number} for name, number in asked.items()}
    told = {"model": model, "calibration": calibrated, "num_asked": num_asked, "num_unparsable": num_unparsable}
    write_json(out_dir / JUDGE, told | {"items": items})
