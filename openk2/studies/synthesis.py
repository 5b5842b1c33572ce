"""What of K2's tool-data synthesis makes a better agent? (K2 §3.1: more trajectories, more domains, filters, rough worlds)

One base model, a recipe's own, is fine-tuned on each arm's trajectories for equally many steps, and then plays held-out tasks,
the same ones for all arms. A run is one process with one thread, so it repeats to the bit; finished ones are kept. A seed
draws its own trajectories, in each arm as far as they can be the same ones, and their order.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from openk2 import pipeline
from openk2.agent import Budget, run_episode
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.eval.harness import evaluate
from openk2.gym.families import make_env, tasks
from openk2.jobs import jsonl
from openk2.model.transformer import Transformer
from openk2.pipeline.folder import Run
from openk2.recipe import Recipe
from openk2.schema import JSON, Sampling
from openk2.studies import runs
from openk2.train.dialogues import DialogueStream, read_dialogues
from openk2.train.supervised import fit
from openk2.worlds.config import WorldsConfig
from openk2.worlds.synthesize import synthesize

MANY = 2000  # an epoch of the study's recipe
REFERENCE = "reference"
FILTERED, UNFILTERED = "sloppy teacher, filtered", "sloppy teacher, unfiltered"


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Held-out tasks, and how often a call of theirs meets a temporary fault (None: as the recipe says)."""

    split: str
    fault_rate: float | None = None


TASK_SETS: Mapping[str, TaskSet] = {
    "heldout": TaskSet("heldout"),
    "unseen_domain": TaskSet("unseen_domain"),
    "without_faults": TaskSet("heldout", 0.0),
    "every_first_call_fails": TaskSet("heldout", 1.0),
}


@dataclass(frozen=True, slots=True)
class Arm(runs.Arm):
    """One way to make trajectories. ``worlds``: what is not as in the recipe."""

    trajectories: int = MANY
    num_apps: int | None = None  # of the demonstrated ones, others with every seed; None: all
    filtered: bool = True  # False: what the judge turned away is learnt as well
    worlds: dict[str, Any] = field(default_factory=dict)


ARMS = (
    Arm(REFERENCE),
    Arm("125 trajectories", trajectories=125),
    Arm("500 trajectories", trajectories=500),
    Arm("1 app", num_apps=1),
    Arm("3 apps", num_apps=3),
    Arm(FILTERED, worlds={"sloppiness": 0.4}),
    Arm(UNFILTERED, worlds={"sloppiness": 0.4}, filtered=False),
    Arm("no faults", worlds={"fault_rate": 0.0}),
    Arm("more faults", worlds={"fault_rate": 0.1}),
)


# ---------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------


class _Run(runs.Kept):
    """What ``run`` returns."""

    epochs: float
    loss: list[float]
    solved: dict[str, float]


def run(folder: Path, arm: Arm, seed: int, num_steps: int) -> runs.Result:
    """Make the arm's trajectories, fine-tune the base in ``folder`` on them, and let it play the held-out tasks."""
    base = Run.reopen(folder / "base")
    torch.set_num_threads(1)
    with _room(folder / "under way" / runs.file_name(arm, seed)) as room:
        jsonl.write(room / "dialogues.jsonl", trajectories(arm, seed, base.recipe.worlds, room))
        model = base.model_after("pretrain")
        told = fine_tune(model, base, room, seed, num_steps)
        solved = {name: solved_share(model, base, room / f"{name}.jsonl", each) for name, each in TASK_SETS.items()}
    return {"arm": asdict(arm), "seed": seed, "num_steps": num_steps, **told, "solved": solved}


@contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """An empty folder for as long as a run takes; what a killed run left there is cleared away."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def worlds_of(arm: Arm, seed: int, recipe: WorldsConfig) -> WorldsConfig:
    """The worlds that the arm's trajectories come from. Few apps are a window that moves on with the seed."""
    apps = recipe.demonstrated
    first = seed * (arm.num_apps or 0)
    some = tuple(apps[(first + i) % len(apps)] for i in range(arm.num_apps or len(apps)))
    return recipe.model_copy(update={"seed": recipe.seed + seed, "demonstrated": some, **arm.worlds})


def trajectories(arm: Arm, seed: int, recipe: WorldsConfig, folder: Path) -> list[JSON]:
    """The first trajectories of the arm's worlds, in order of task: those that passed, or all that were played.

    Raises ValueError where too few pass.
    """
    worlds = worlds_of(arm, seed, recipe)
    # A teacher's mistake does not always cost the goal, a kind without a fitting tool always does.
    num_tasks = math.ceil(1.1 * arm.trajectories / (1 - worlds.sloppiness)) + 20
    worlds = worlds.model_copy(update={"num_train": num_tasks})
    asyncio.run(synthesize(worlds, folder, run_episode, partial(make_env, "tools", worlds)))
    found = list(jsonl.read(folder / "traces.jsonl"))
    if not arm.filtered:
        found += [record for record in jsonl.read(folder / "rejects.jsonl") if "messages" in record]
    if len(found) < arm.trajectories:
        raise ValueError(f"arm {arm.name}: {num_tasks} tasks gave {len(found)} trajectories, not {arm.trajectories}")
    return sorted(found, key=lambda record: str(record["task_id"]))[: arm.trajectories]


def fine_tune(model: Transformer, base: Run, room: Path, seed: int, num_steps: int) -> JSON:
    """SFT as the recipe has it, on the trajectories alone: how many epochs it took, and the loss of every step."""
    assert base.recipe.sft is not None, "study() asks for it"
    config = base.recipe.sft.model_copy(update={"checkpoint_every": num_steps})
    chat = base.chat_format()
    stream = DialogueStream(
        read_dialogues(room / "dialogues.jsonl", chat),
        row_length=config.row_length,
        batch_rows=config.batch_rows,
        pad_id=chat.tokenizer.pad_id,
        seed=seed,
    )
    loss: list[float] = []
    fit(
        "sft",
        room / "sft",
        model,
        stream,
        config,
        base.compute,
        num_steps=num_steps,
        on_metrics=lambda row: loss.append(row["loss"]),
    )
    return {"epochs": stream.epochs, "loss": loss}


def solved_share(model: Transformer, base: Run, traces: Path, task_set: TaskSet) -> float:
    """Pass@1 on a set, greedily, with the recipe's budget for an episode."""
    config = base.recipe.eval
    worlds = base.recipe.worlds
    if task_set.fault_rate is not None:
        worlds = worlds.model_copy(update={"fault_rate": task_set.fault_rate})
    context = base.recipe.model.max_positions
    engine = Engine(model, base.chat_format(), EngineConfig(max_rows=config.concurrency, max_context=context))
    results = asyncio.run(
        evaluate(
            engine,
            partial(make_env, "tools", worlds),
            tasks("tools", worlds, task_set.split)[: config.tasks_per_set],
            run_episode=partial(
                run_episode, budget=Budget(config.max_turns, config.max_tokens, context), chat=engine.chat_format
            ),
            sampling=Sampling(temperature=0.0, max_tokens=config.max_tokens),
            concurrency=config.concurrency,
            out_path=traces,
            policy_id="study",
            seed=config.seed,
        )
    )
    return results.pass_at_1().value


# ---------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------


def study(
    folder: Path,
    recipe: Recipe,
    *,
    num_seeds: int,
    arms: Sequence[Arm] = ARMS,
    say: Callable[[str], None] = print,
) -> list[runs.Result]:
    """Pre-train the recipe's base model, then run every arm on every seed. What is there in ``folder`` is not done again."""
    if recipe.sft is None:
        raise ValueError(f"recipe {recipe.name} has no [sft]: the study fine-tunes with its settings")
    pipeline.run_stage("pretrain", recipe, folder / "base")
    return runs.carry_out(
        folder,
        partial(run, folder),
        arms,
        num_seeds=num_seeds,
        num_steps=recipe.sft.steps,
        kept=_Run,
        tell=_in_words,
        say=say,
    )


def _in_words(result: runs.Result) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in result["solved"].items())
