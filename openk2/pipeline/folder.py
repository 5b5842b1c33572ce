"""A run's folder: whose it is, which stages are done, what each took.

runs/NAME/recipe.toml              the resolved recipe
runs/NAME/tokenizer.json
runs/NAME/corpus/                  token files
runs/NAME/worlds/                  traces, rejects, funnel, documents
runs/NAME/{pretrain,sft,sft_control,rl}/   metrics.jsonl, checkpoints/, tensorboard/
runs/NAME/eval/                    STAGE-SET.jsonl
runs/NAME/STAGE/seconds.json       time spent so far
runs/NAME/STAGE/done.json          written last: the stage is finished
runs/NAME/summary.json, report.html
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from openk2.jobs.atomic import read_json, write_json
from openk2.jobs.provenance import provenance
from openk2.model.transformer import Transformer
from openk2.recipe import Recipe
from openk2.text.chat import ChatFormat
from openk2.text.tokenizer import Tokenizer
from openk2.train.checkpoint import checkpoints, load_model
from openk2.train.step import Compute

Done = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A recipe being carried out in a folder."""

    recipe: Recipe
    folder: Path
    compute: Compute
    console: Console

    @classmethod
    def open(cls, recipe: Recipe, folder: Path) -> Run:
        """Claim ``folder`` for ``recipe``, or take it up again. Raises ValueError when it is another recipe's."""
        path, compute = folder / "recipe.toml", _compute(recipe)
        if path.exists():
            started = Recipe.load(path)
            if started.fingerprint != recipe.fingerprint:
                raise ValueError(
                    f"{folder} belongs to another recipe (it differs in {_first_difference(started, recipe)}): "
                    "name another folder, or remove this one"
                )
        else:
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{folder} is a file: a run needs a folder of its own, name one with --run")
            missing = [source.path for source in recipe.data.sources if source.path and not source.path.exists()]
            if missing:
                raise ValueError(f"data.sources: {missing[0]} does not exist")
            folder.mkdir(parents=True, exist_ok=True)
            recipe.save(path)
        return cls(recipe, folder, compute, Console(highlight=False))

    @classmethod
    def reopen(cls, folder: Path) -> Run:
        """A run that was started before. Raises ValueError when ``folder`` holds none."""
        if not (folder / "recipe.toml").is_file():
            raise ValueError(f"{folder} is no run's folder: it has no recipe.toml")
        recipe = Recipe.load(folder / "recipe.toml")
        return cls(recipe, folder, _compute(recipe), Console(highlight=False))

    def say(self, words: str) -> None:
        """One line to the person watching."""
        self.console.print(words, markup=False)

    # -- stages ------------------------------------------------------------------------------

    def done(self, stage: str) -> Done | None:
        """What a finished stage left, or None."""
        path = self.folder / stage / "done.json"
        return read_json(path) if path.is_file() else None

    def carry_out(self, stage: str, work: Callable[[Run], Done]) -> None:
        """Run a stage unless it is done; note its time over all sittings, and the process's peak memory so far."""
        finished = self.done(stage)
        if finished is not None:
            self.say(f"{stage}: done before, {finished['seconds']:.0f} s")
            return
        clock = self.folder / stage / "seconds.json"
        before = read_json(clock) if clock.is_file() else 0.0
        self.say(f"{stage}: " + ("starting" if not before else f"going on, {before:.0f} s spent so far"))
        started = time.perf_counter()
        result: Done | None = None
        try:
            result = work(self)
        finally:
            seconds = before + time.perf_counter() - started
            clock.parent.mkdir(parents=True, exist_ok=True)
            write_json(clock, seconds)
        measured = {"seconds": seconds, "peak_rss_bytes": _peak_rss(), "made_by": self.describe()}
        write_json(self.folder / stage / "done.json", {**measured, **result})
        budget = self.budget(stage)
        against = "" if budget is None else f" of {budget:.0f} s budgeted"
        self.say(f"{stage}: finished in {seconds:.0f} s{against}")

    def budget(self, stage: str) -> float | None:
        """Seconds the recipe grants a stage. The control has what reinforcement learning took."""
        if stage == "sft_control":
            finished = self.done("rl")
            return finished["seconds"] if finished else self.recipe.budget.rl
        return getattr(self.recipe.budget, stage, None)

    # -- what stages share -------------------------------------------------------------------

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer. Raises ValueError before the corpus stage."""
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{path} is missing: run the corpus stage first (openk2 pretrain does)")
        return Tokenizer.load(path)

    def chat_format(self) -> ChatFormat:
        """The chat format over it."""
        return ChatFormat(self.tokenizer())

    def fresh_model(self) -> Transformer:
        """The model as the recipe's seed draws it."""
        return Transformer(self.recipe.model).initialize(self.recipe.seed).to(self.compute.device)

    def model_after(self, stage: str) -> Transformer:
        """The model at a stage's newest checkpoint. Raises ValueError when the stage has no checkpoint."""
        found = checkpoints(self.folder / stage / "checkpoints")
        if not found:
            raise ValueError(f"{self.folder} has no checkpoint of stage {stage}: run it first")
        model = Transformer(self.recipe.model).to(self.compute.device)
        load_model(found[-1], model)
        return model

    def describe(self) -> dict[str, str]:
        """What made the numbers: code, machine, torch, date."""
        return provenance(self.compute.device)


def _compute(recipe: Recipe) -> Compute:
    torch.set_num_threads(recipe.threads)
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise ValueError('device = "cuda", but torch sees no GPU: set device = "auto" or "cpu"')
    if recipe.device != "cpu" and torch.cuda.is_available():
        return Compute(torch.device("cuda"), bf16=True)
    return Compute(torch.device("cpu"))


def _first_difference(a: Recipe, b: Recipe) -> str:
    def walk(x: Any, y: Any, path: str) -> str | None:
        if isinstance(x, dict) and isinstance(y, dict):
            for key in sorted(x.keys() | y.keys()):
                found = walk(x.get(key), y.get(key), f"{path}.{key}" if path else key)
                if found:
                    return found
            return None
        if isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
            return walk(dict(enumerate(x)), dict(enumerate(y)), path)
        return None if x == y else f"{path}: {x} there, {y} here"

    return walk(a.model_dump(mode="json"), b.model_dump(mode="json"), "") or "nothing visible"


def _peak_rss() -> int:
    """Largest resident memory of this process and of its largest child so far, in bytes: not less than was used at once.

    A child's count begins with what its parent held when it was started.
    """
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024
