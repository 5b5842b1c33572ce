"""What a model of these studies can do: held-out tasks, the dialogues SFT taught, and how good a critic it is."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypedDict

import torch

from openk2.agent import Budget, run_episode
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.eval.harness import evaluate
from openk2.gym.critic.judge import in_time
from openk2.gym.critic.measure import measure_critic
from openk2.gym.critic.pairwise import PairwiseCritic
from openk2.gym.critic.preferences import Pair, labelled_pairs, preference_pairs
from openk2.gym.critic.rubrics import rubrics_of
from openk2.gym.families import demonstrations, make_env, tasks
from openk2.jobs import jsonl
from openk2.model.transformer import Transformer
from openk2.pipeline.folder import Run
from openk2.recipe import Recipe
from openk2.schema import JSON, Sampling, Task, Trace
from openk2.text.chat import Encoded
from openk2.text.packing import pack
from openk2.train.config import RLConfig
from openk2.train.rl.rollout import reply_of
from openk2.train.step import Batch, language_model_losses
from openk2.worlds.teacher import ScriptedTeacher

DEMONSTRATED, UNDEMONSTRATED = "demonstrated", "undemonstrated"
SPLITS = {DEMONSTRATED: "heldout", UNDEMONSTRATED: "undemonstrated_heldout"}
GREEDY, SAMPLED = 0.0, 1.0
KNOWN_PAIRS = 120  # with known flaws, none of them shown in SFT
FRESH_TASKS, FRESH_REPLIES = 32, 4  # of each verified family with questions, sampled at T = 1


class SetScores(TypedDict):
    """A set at one temperature: the score of every task, in order, and the mean number of tokens sampled for one."""

    scores: list[float]
    tokens: float


Scores = dict[str, dict[str, SetScores]]
"""By set (``family/demonstrated`` or ``family/undemonstrated``), then by temperature, written as ``str`` does."""


Letter = tuple[str | None, float]
"""A reply that a critic compares, None where its budget cut it, and its hidden score."""


class Bench:
    """A run's recipe as a test of models: same tasks, same seeds, same budget for all."""

    def __init__(self, run: Run, num_tasks: int, answer_tokens: int | None = None) -> None:
        """``answer_tokens``: by default as in the recipe's evaluation. Raises ValueError where the recipe has no [rl]."""
        self.run, self.recipe, self.chat = run, run.recipe, run.chat_format()
        self.rl = rl_of(run.recipe)
        self.sets = task_sets(run.recipe, num_tasks)
        self.answer_tokens = answer_tokens or run.recipe.eval.max_tokens

    def engine(self, model: Transformer) -> Engine:
        """An engine with room for an evaluation."""
        config = EngineConfig(max_rows=self.recipe.eval.concurrency, max_context=self.recipe.model.max_positions)
        return Engine(model, self.chat, config)

    # -- tasks ---------------------------------------------------------------------------------

    def scores(self, model: Transformer, folder: Path, temperatures: Sequence[float]) -> Scores:
        """On every set at every temperature. ``folder`` keeps the traces: what it has already is not played again."""
        engine = self.engine(model)
        return {
            name: {str(each): _scored(self._at(engine, name, each, folder)) for each in temperatures}
            for name in self.sets
        }

    def letters(self, model: Transformer, folder: Path) -> dict[str, list[Letter]]:
        """What it says at T = 1 for every task of the sets that a critic judges, as the last word, and its score."""
        engine = self.engine(model)
        return {
            name: [(_ended(trace), _score(trace)) for trace in self._at(engine, name, SAMPLED, folder)]
            for name in self.sets
            if self._is_judged(name)
        }

    def _at(self, engine: Engine, name: str, temperature: float, folder: Path) -> list[Trace]:
        return self._play(
            engine, self.sets[name], temperature, folder / f"{name.replace('/', '-')}-{temperature}.jsonl"
        )

    def _play(
        self, engine: Engine, some: Sequence[Task], temperature: float, path: Path, num_samples: int = 1
    ) -> list[Trace]:
        """The traces in the order of the tasks, those of one task side by side."""
        config = self.recipe.eval
        budget = Budget(config.max_turns, self.answer_tokens, engine.config.max_context)
        asyncio.run(
            evaluate(
                engine,
                partial(make_env, some[0].family, self.recipe.worlds),
                some,
                run_episode=partial(run_episode, budget=budget, chat=self.chat),
                sampling=Sampling(temperature=temperature, max_tokens=self.answer_tokens),
                concurrency=config.concurrency,
                out_path=path,
                policy_id="study",
                seed=config.seed,
                num_samples=num_samples,
            )
        )
        place = {task.id: number for number, task in enumerate(some)}
        traces = (Trace.from_json(row) for row in jsonl.read(path))
        return sorted(traces, key=lambda trace: (place[trace.task_id], trace.info["eval"]["sample"]))

    def _is_judged(self, name: str) -> bool:
        return self.rl.critic is not None and name.partition("/")[0] in self.rl.critic.families

    # -- what SFT taught -----------------------------------------------------------------------

    @torch.no_grad()
    def demonstration_loss(self, model: Transformer) -> float:
        """Nats a token of what SFT would show of the held-out tasks of demonstrated kinds, every family counting alike."""
        model.eval()
        return statistics.mean(
            self._loss_on(model, self.shown(some))
            for name, some in self.sets.items()
            if name.endswith(f"/{DEMONSTRATED}")
        )

    def shown(self, some: Sequence[Task]) -> list[Encoded]:
        """Demonstrations of tasks of one family, as SFT has them, but all of them right: no slip, no fault, no flaw."""
        family, worlds = some[0].family, self.recipe.worlds.model_copy(update={"fault_rate": 0.0})
        if family != "tools":
            return [self.chat.encode(messages) for messages in demonstrations(family, some)]

        async def episodes() -> list[Trace]:
            teachers = (ScriptedTeacher(task, seed=worlds.seed) for task in some)
            played = zip(teachers, some, strict=True)
            return await asyncio.gather(
                *(run_episode(teacher, make_env(family, worlds), task, seed=0) for teacher, task in played)
            )

        return [self.chat.encode(trace.messages, trace.tools) for trace in asyncio.run(episodes())]

    def _loss_on(self, model: Transformer, dialogues: Sequence[Encoded]) -> float:
        sequences = ((dialogue.token_ids, dialogue.loss_mask) for dialogue in dialogues)
        length = self.recipe.model.max_positions
        rows = pack(sequences, length, pad_id=self.chat.tokenizer.pad_id, overlong="drop")
        batch = Batch.from_rows(rows, self.run.compute.device)
        losses = language_model_losses(batch, self.run.compute, micro_batch_rows=self.rl.micro_batch_rows)
        return sum(float(loss_of(model)[0]) for loss_of in losses)

    # -- the critic ----------------------------------------------------------------------------

    def judged(
        self, model: Transformer, sft: Transformer, folder: Path, sft_letters: Mapping[str, Sequence[Letter]]
    ) -> JSON:
        """The model as a critic, and as the author of what critics compare.

        ``known``: on pairs with known flaws; ``fresh``: on pairs of its own verified replies. Of its letters against the SFT
        model's to the same tasks: ``reward`` by its own judgement, ``reward_by_sft`` by that of the SFT model, and ``score``, theirs
        by the hidden checker.
        """
        assert self.rl.critic is not None, "only where there is a critic"
        compare = self.rl.critic.compare
        context = self.recipe.model.max_positions
        own, other = (PairwiseCritic(self.engine(each), self.chat, compare, context) for each in (model, sft))
        known = preference_pairs("heldout", KNOWN_PAIRS, seed=0)
        told: JSON = {"known": asyncio.run(measure_critic(own, known, compare.group_s)).to_json()}
        if fresh := list(self._fresh_pairs(model, folder)):
            told["fresh"] = asyncio.run(measure_critic(own, fresh, compare.group_s)).to_json()
        letters = self.letters(model, folder)
        for name, critic in (("reward", own), ("reward_by_sft", other)):
            told[name] = asyncio.run(self._reward(critic, letters, sft_letters, compare.group_s))
        told["score"] = statistics.mean(score for some in letters.values() for _, score in some)
        return told

    async def _reward(
        self,
        critic: PairwiseCritic,
        ours: Mapping[str, Sequence[Letter]],
        theirs: Mapping[str, Sequence[Letter]],
        seconds: float,
    ) -> float:
        """How likely ours are the better ones; equal ones are as good, and one without an end is worse, as in training."""

        async def one(task: Task, our: str | None, their: str | None) -> float:
            if our == their:
                return 0.5
            if our is None or their is None:
                return float(their is None)
            return (await critic.compare(task.payload["question"], rubrics_of(task), our, their)).better

        pairs = [each for name in ours for each in zip(self.sets[name], ours[name], theirs[name], strict=True)]
        async with in_time(seconds):
            return statistics.mean(
                await asyncio.gather(*(one(task, our, their) for task, (our, _), (their, _) in pairs))
            )

    def _fresh_pairs(self, model: Transformer, folder: Path) -> Iterator[Pair]:
        """Two at most of each task: replies of the model that earned different scores."""
        engine = self.engine(model)
        for name, some in self.sets.items():
            if self._is_judged(name) or not name.endswith(f"/{UNDEMONSTRATED}") or "question" not in some[0].payload:
                continue
            path = folder / f"fresh-{name.replace('/', '-')}.jsonl"
            traces = self._play(engine, some[:FRESH_TASKS], SAMPLED, path, FRESH_REPLIES)
            by_id = {task.id: task for task in some}
            for task_id, group in groupby(traces, key=lambda trace: trace.task_id):
                ended = [(reply, _score(trace)) for trace in group if (reply := _ended(trace)) is not None]
                replies, scores = [reply for reply, _ in ended], [score for _, score in ended]
                yield from labelled_pairs(by_id[task_id], replies, scores, 2)


def rl_of(recipe: Recipe) -> RLConfig:
    """The recipe's [rl]. Raises ValueError where it has none."""
    if recipe.rl is None:
        raise ValueError(f"recipe {recipe.name} has no [rl]: the study trains with its settings")
    return recipe.rl


def task_sets(recipe: Recipe, num_tasks: int) -> dict[str, Sequence[Task]]:
    """The first held-out tasks of every family that the recipe's RL trains on; kinds that no demonstration shows are apart."""
    found = {
        f"{family}/{name}": tasks(family, recipe.worlds, split, recipe.gym)[:num_tasks]
        for family in sorted(rl_of(recipe).families)
        for name, split in SPLITS.items()
    }
    return {name: some for name, some in found.items() if some}


def _scored(traces: Sequence[Trace]) -> SetScores:
    return {
        "scores": [round(_score(trace), 4) for trace in traces],
        "tokens": statistics.mean(trace.num_sampled for trace in traces),
    }


def _score(trace: Trace) -> float:
    return 0.0 if trace.score is None else trace.score.total


def _ended(trace: Trace) -> str | None:
    """Its reply; None where a budget cut it."""
    return reply_of(trace) if trace.stop_reason == "done" else None
