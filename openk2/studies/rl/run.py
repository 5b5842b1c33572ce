"""One run of a study of reinforcement learning, and all of them: one SFT model, every arm on every seed.

A run is the recipe's own stage ``rl``, with what its arm changes, in a folder where the base's SFT model lies. With one thread it
repeats to the bit. A seed draws prompts, samples and the order of dialogues.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from openk2 import pipeline
from openk2.engine.fingerprint import fingerprint
from openk2.jobs.atomic import read_json, write_json
from openk2.jobs.provenance import provenance
from openk2.model.transformer import Transformer
from openk2.pipeline import stages
from openk2.pipeline.folder import Run
from openk2.recipe import Recipe
from openk2.schema import JSON
from openk2.studies import runs
from openk2.studies.rl.latency import Latency, slow_service
from openk2.studies.rl.measure import GREEDY, SAMPLED, Bench, rl_of
from openk2.train.checkpoint import checkpoints, load_model, read_state
from openk2.train.config import RLConfig
from openk2.train.metrics import last_metrics, read_metrics

RL, CONTROL = "RL", "SFT continued"
# Of a plan, what the recipe does not say: of a run, and of the SFT model.
_MEASURED = ("num_tasks", "answer_tokens", "looks", "control", "slow_tools")
_MEASURED_OF_SFT = ("num_tasks", "answer_tokens", "sft_temperatures")
BASE_STAGES = ("tokenizer.json", "worlds", "corpus", "sft")


@dataclass(frozen=True, slots=True)
class Arm(runs.Arm):
    """What is not as in the recipe: keys of [rl], and of [rl.critic]. Values as in JSON."""

    rl: dict[str, Any] = field(default_factory=dict)
    critic: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """How all runs of a study are made. ``num_steps``: None takes the recipe's.

    ``looks``: how often a critic is measured on the way, the end included. ``control``: SFT goes on for the time that RL took, and is
    measured too. ``all_cores``: a run has the recipe's threads. ``alone``: one run at a time. ``slow_tools``: tools are played at
    a service with this latency. ``sft_temperatures``: at which the SFT model is measured besides. ``answer_tokens``: how many an
    answer may have when a model is measured, by default as in the recipe's evaluation; longer ones are not judged, as two might not
    fit into a comparison.
    """

    name: str
    num_steps: int | None
    num_tasks: int = 64
    looks: int = 1
    control: bool = False
    all_cores: bool = False
    alone: bool = False
    slow_tools: Latency | None = None
    wants_critic: bool = False
    sft_temperatures: tuple[float, ...] = ()
    answer_tokens: int | None = None

    @property
    def judges(self) -> bool:
        """Whether letters are compared, where the recipe has a critic."""
        return self.answer_tokens is None


class _Run(runs.Kept):
    """What ``run`` returns. ``made``: by which code, from which SFT model, by which recipe, and how it was measured."""

    course: list[dict[str, float]]
    models: dict[str, dict[str, Any]]
    judged: list[dict[str, Any]]
    made: dict[str, Any]


def run(folder: Path, plan: Plan, commit: str, arm: Arm, seed: int, num_steps: int) -> runs.Result:
    """Reinforce the base's SFT model as the arm says, and measure what became of it.

    Where another study has made the very same run, its result is taken.
    """
    base = Run.reopen(folder / "base")
    sft, recipe = base.model_after("sft"), recipe_of(plan, arm, base.recipe, seed, num_steps)
    made = {"commit": commit, **_made(fingerprint(sft), recipe, plan)}
    told = {"arm": asdict(arm), "seed": seed, "num_steps": num_steps, "made": made}
    for path in sorted(folder.glob(f"*/*-seed-{seed}.json")):
        if (other := read_json(path)).get("made") == made:
            return {**other, **told}
    place = folder / plan.name / "under way" / runs.file_name(arm, seed)
    if plan.slow_tools or (plan.control and not (place / "rl" / "done.json").exists()):
        shutil.rmtree(place, ignore_errors=True)  # its time cannot be measured in pieces
    room = _room(place, base, recipe, made)
    bench = Bench(base, plan.num_tasks, plan.answer_tokens)
    with _services(room, plan.slow_tools) as urls:
        gym = room.recipe.gym.model_copy(update={"services": urls})
        playing = replace(room, recipe=room.recipe.model_copy(update={"gym": gym}))
        playing.carry_out("rl", stages.rl)
    models = {RL: _measured(bench, room, "rl", room.folder / "rl" / "eval")}
    if plan.control:
        room.carry_out("sft_control", stages.sft_control)
        models[CONTROL] = _measured(bench, room, "sft_control", room.folder / "sft_control" / "eval")
    judged = []
    if bench.rl.critic is not None and plan.judges:
        known = read_json(folder / plan.name / "sft.json")["letters"]
        for checkpoint in checkpoints(room.folder / "rl" / "checkpoints")[-plan.looks :]:
            step = read_state(checkpoint)["step"]
            model = Transformer(base.recipe.model).to(room.compute.device)
            load_model(checkpoint, model)
            # The last one has been measured: its letters lie where they were played.
            letters = room.folder / ("rl" if step == num_steps else f"step-{step}") / "eval"
            judged.append({"step": step, **bench.judged(model, sft, letters, known)})
    course = read_metrics(room.folder / "rl" / "metrics.jsonl")
    shutil.rmtree(room.folder)
    return {**told, "course": course, "models": models, "judged": judged}


def _made(sft: str, recipe: Recipe, plan: Plan) -> JSON:
    """What two runs of the same code have in common that give the same result; ``sft``: the fingerprint of where they start."""
    measured = {key: value for key, value in asdict(plan).items() if key in _MEASURED}
    return {"sft": sft, "recipe": recipe.fingerprint, **measured}


def recipe_of(plan: Plan, arm: Arm, base: Recipe, seed: int, num_steps: int) -> Recipe:
    """The recipe of a run."""
    rl = rl_of(base).model_dump() | {"steps": num_steps}
    if plan.looks > 1:
        rl |= {"checkpoint_every": math.ceil(num_steps / plan.looks), "keep_checkpoints": plan.looks}
    if arm.critic:
        rl["critic"] = rl["critic"] | arm.critic
    changed = {
        "rl": RLConfig.model_validate(rl | arm.rl),
        "seed": base.seed + seed,
        "threads": base.threads if plan.all_cores else 1,
    }
    return base.model_copy(update=changed)


def _room(place: Path, base: Run, recipe: Recipe, made: JSON) -> Run:
    """A run's folder that has what its stages take from the base; silent, since several go on at once.

    What a stopped run left goes on, unless it was made otherwise: of another length, say, or by other code.
    """
    left = place / "made.json"
    if place.exists() and not (left.exists() and read_json(left) == made):
        shutil.rmtree(place)
    room = Run.open(recipe, place)
    write_json(left, made)
    for name in BASE_STAGES:
        link = place / name
        if not link.is_symlink():
            link.symlink_to((base.folder / name).resolve())
    return replace(room, console=Console(quiet=True))


@contextmanager
def _services(room: Run, slow_tools: Latency | None) -> Iterator[dict[str, str]]:
    """URLs of families that are played elsewhere."""
    if slow_tools is None:
        yield {}
        return
    with slow_service("tools", room.recipe.worlds, slow_tools) as url:
        yield {"tools": url}


def _measured(bench: Bench, run: Run, stage: str, folder: Path, temperatures: Sequence[float] = ()) -> JSON:
    """What a finished stage's model can do, and the seconds its training took."""
    done, model = run.done(stage), run.model_after(stage)
    assert done is not None, "a model is measured when its stage is done"
    return {
        "scores": bench.scores(model, folder, (GREEDY, *temperatures, SAMPLED)),
        "demonstration_loss": bench.demonstration_loss(model),
        "bits_per_byte": done["bits_per_byte"],
        "seconds": last_metrics(run.folder / stage / "metrics.jsonl")["seconds"],
    }


# ---------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------


def study(
    folder: Path,
    recipe: Recipe,
    plan: Plan,
    arms: Sequence[Arm],
    *,
    num_seeds: int,
    say: Callable[[str], None] = print,
) -> tuple[JSON, list[runs.Result]]:
    """Make the recipe's SFT model in ``folder``/base, for all studies; then run every arm on every seed.

    What is there is not done again. Returns what the SFT model can do, and the runs.
    """
    num_steps = plan.num_steps or rl_of(recipe).steps
    if recipe.sft is None:
        raise ValueError(f"recipe {recipe.name} has no [sft]: the study starts from a fine-tuned model")
    if plan.wants_critic and rl_of(recipe).critic is None:
        raise ValueError(f"recipe {recipe.name} has no [rl.critic]: study rl-{plan.name} is about it")
    for arm in arms:
        recipe_of(plan, arm, recipe, 0, num_steps)  # what is wrong with one should not show after an hour
    pipeline.run_stage("sft", recipe, folder / "base")
    start, commit = fingerprint(Run.reopen(folder / "base").model_after("sft")), provenance()["commit"]
    for arm in arms:
        for seed in range(num_seeds):
            made = _made(start, recipe_of(plan, arm, recipe, seed, num_steps), plan)
            _refuse_other(folder / plan.name / f"{runs.file_name(arm, seed)}.json", arm, num_steps, made)
    sft = _sft(folder, plan, commit)
    results = runs.carry_out(
        folder / plan.name,
        partial(run, folder, plan, commit),
        arms,
        num_seeds=num_seeds,
        num_steps=num_steps,
        kept=_Run,
        tell=_in_words,
        say=say,
        at_once=1 if plan.alone else None,
    )
    return sft, results


def _refuse_other(path: Path, arm: Arm, num_steps: int, made: JSON) -> None:
    """Raises ValueError where the arm's result is there, but of another recipe, SFT model or measurement; other code is accepted."""
    if not path.exists():
        return
    result = read_json(path)
    if result.get("arm") != asdict(arm) or result.get("num_steps") != num_steps:
        return  # it will be done again
    if other := sorted(key for key, value in made.items() if result.get("made", {}).get(key) != value):
        raise ValueError(f"{path} was made otherwise ({', '.join(other)} differ): take another --out, or remove it")


def _sft(folder: Path, plan: Plan, commit: str) -> JSON:
    """What the SFT model can do, measured once in the same way."""
    path, base = folder / plan.name / "sft.json", Run.reopen(folder / "base")
    model = base.model_after("sft")
    made = {"sft": fingerprint(model), **{key: value for key, value in asdict(plan).items() if key in _MEASURED_OF_SFT}}
    made = json.loads(json.dumps(made))
    found: JSON = read_json(path) if path.exists() else {}
    if {key: value for key, value in found.get("made", {}).items() if key != "commit"} == made:
        return found
    bench, room = Bench(base, plan.num_tasks, plan.answer_tokens), folder / plan.name / "under way" / "sft"
    shutil.rmtree(room, ignore_errors=True)
    told = {"made": {"commit": commit, **made}, **_measured(bench, base, "sft", room, plan.sft_temperatures)}
    if bench.rl.critic is not None and plan.judges:
        letters = bench.letters(model, room)
        told |= {"letters": letters, "judged": {"step": 0, **bench.judged(model, model, room, letters)}}
    write_json(path, told)
    shutil.rmtree(room)
    return told


def _in_words(result: runs.Result) -> str:
    reward = [row["reward"] for row in result["course"] if "reward" in row]
    tenth = max(1, len(reward) // 10)
    return f"reward {statistics.mean(reward[:tenth]):.3f} to {statistics.mean(reward[-tenth:]):.3f}"
