"""What each stage of a run does: worlds, corpus, pre-training, SFT, RL and its control, evaluation, report."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from openk2.agent import Budget, run_episode
from openk2.data import store
from openk2.data.config import DataConfig, SourceConfig
from openk2.data.corpus import mixed_texts
from openk2.data.stream import TokenStream, heldout_batches
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.eval.harness import evaluate
from openk2.eval.perplexity import bits_per_byte
from openk2.eval.summary import eval_path, summarize
from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.preferences import critique, preference_pairs
from openk2.gym.families import demonstrations, make_env, tasks
from openk2.jobs import jsonl
from openk2.jobs.atomic import write_json
from openk2.jobs.cluster import connected
from openk2.model.transformer import Transformer
from openk2.pipeline.folder import Done, Run
from openk2.recipe import Recipe
from openk2.schema import Message, Sampling, Task
from openk2.text.tokenizer import Tokenizer
from openk2.train.config import RLConfig, SFTConfig
from openk2.train.dialogues import DialogueStream, read_dialogues
from openk2.train.metrics import last_metrics, read_metrics
from openk2.train.rl.actors import ActorsConfig, RayPlayers
from openk2.train.rl.players import MakePlayers
from openk2.train.rl.prompts import PromptSource
from openk2.train.rl.reinforce import reinforce
from openk2.train.supervised import fit
from openk2.view.live import LiveView, Progress
from openk2.view.report import write_report
from openk2.worlds.documents import documents
from openk2.worlds.synthesize import synthesize

EVAL_SETS = {
    "demonstrated": "heldout",
    "undemonstrated": "undemonstrated_heldout",
    "unseen_domain": "unseen_domain",
}
"""Sets of the result table, and the splits of the tool worlds they are."""
TOKENIZER_DIALOGUES = 6000
MOST_ROWS = 512


def run(recipe: Recipe, folder: Path) -> None:
    """Every stage from text to report; a stage that is done is not repeated."""
    opened = Run.open(recipe, folder)
    for stage in _stages(recipe):
        opened.carry_out(stage, WORK[stage])
    report(opened)


def run_stage(stage: str, recipe: Recipe, folder: Path) -> None:
    """One stage of ``pretrain, sft, rl, eval`` with what it stands on; later ones are left alone."""
    opened = Run.open(recipe, folder)
    order = _stages(recipe)
    if stage not in order:
        raise ValueError(f"recipe {recipe.name} has no stage {stage}: it has {', '.join(order)}")
    for each in order[: order.index(stage) + 1]:
        opened.carry_out(each, WORK[each])


def _stages(recipe: Recipe) -> list[str]:
    chosen = ["worlds", "corpus", "pretrain"]
    chosen += ["sft"] if recipe.sft else []
    chosen += ["rl", "sft_control"] if recipe.sft and recipe.rl else []
    return [*chosen, "eval"]


# ---------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------


def make_worlds(run: Run) -> Done:
    """Play the scripted teacher on every training task, keep what passes; write documents about the worlds."""
    recipe, folder = run.recipe, run.folder / "worlds"
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(run.console) as progress:
        bar = progress.add_task("trajectories", total=recipe.worlds.num_train)
        funnel = asyncio.run(
            synthesize(
                recipe.worlds,
                folder,
                run_episode,
                partial(make_env, "tools", recipe.worlds),
                lambda done: progress.update(bar, completed=done),
            )
        )
    texts = documents(recipe.worlds, recipe.worlds.num_documents)
    jsonl.write(folder / "documents.jsonl", ({"text": text} for text in texts))
    return {"funnel": funnel.to_json()}


def make_corpus(run: Run) -> Done:
    """Train the tokenizer on a sample of everything, then write the corpus as tokens."""
    config = _data(run)
    path = run.folder / "tokenizer.json"
    if not path.is_file():
        Tokenizer.train(_tokenizer_texts(run, config), run.recipe.tokenizer).save(path)
    counts = store.build(config, Tokenizer.load(path), run.folder / "corpus")
    return {"tokens": {source: split["train"].num_tokens for source, split in counts.items()}}


def _data(run: Run) -> DataConfig:
    """The recipe's sources, and the documents about the worlds."""
    config = run.recipe.data
    if run.recipe.worlds.documents_weight == 0:
        return config
    worlds = SourceConfig(
        kind="files",
        label="worlds",
        weight=run.recipe.worlds.documents_weight,
        path=(run.folder / "worlds" / "documents.jsonl"),
    )
    return config.model_copy(update={"sources": (*config.sources, worlds)})


def _tokenizer_texts(run: Run, config: DataConfig) -> Iterator[str]:
    """A sample of the corpus, and dialogues with their tools: words of both become short."""
    yield from mixed_texts(config, run.recipe.tokenizer.train_chars)
    with (run.folder / "worlds" / "traces.jsonl").open() as lines:
        for line in islice(lines, TOKENIZER_DIALOGUES):
            dialogue = json.loads(line)
            yield json.dumps(dialogue["tools"], separators=(",", ":"), ensure_ascii=False)
            for message in dialogue["messages"]:
                yield message["content"]
                for call in message.get("tool_calls", ()):
                    yield call["function"]["name"]
                    yield call["function"]["arguments"]
    if run.recipe.sft is not None:
        for messages in _plain_dialogues(run.recipe, run.recipe.sft):
            yield from (message.content for message in messages)


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------


def pretrain(run: Run) -> Done:
    """Pre-training on the corpus."""
    config = run.recipe.pretrain
    stream = TokenStream(
        run.folder / "corpus",
        row_length=config.row_length,
        batch_rows=config.batch_rows,
        seed=run.recipe.seed,
        weights={source.name: source.weight for source in _data(run).sources},
    )
    model = run.fresh_model()
    with _live(run, "pretrain", config.steps) as view:
        fit(
            "pretrain",
            run.folder / "pretrain",
            model,
            stream,
            config,
            run.compute,
            on_metrics=view.update,
            say=run.say,
        )
    return {"bits_per_byte": _bits_per_byte(run, model), "tokens_per_second": _speed(run, "pretrain")}


def sft(run: Run) -> Done:
    """Fine-tuning on the verified dialogues."""
    return _fine_tune(run, "sft", "pretrain", None)


def sft_control(run: Run) -> Done:
    """The control: SFT continued for as long as the steps of reinforcement learning took.

    By the time of SFT's quicker steps, so that what slowed SFT down on that day takes nothing from the control.
    """
    ended = [row["seconds"] for row in read_metrics(run.folder / "sft" / "metrics.jsonl")]
    step_seconds = np.quantile(np.diff(ended, prepend=0.0), 0.25)
    seconds = last_metrics(run.folder / "rl" / "metrics.jsonl")["seconds"]
    return _fine_tune(run, "sft_control", "sft", max(1, round(seconds / step_seconds)))


def _fine_tune(run: Run, name: str, after: str, num_steps: int | None) -> Done:
    config = run.recipe.sft
    assert config is not None
    steps = num_steps or config.steps
    model = run.model_after(after)
    stream = _dialogues(run, config.row_length, config.batch_rows, seed=run.recipe.seed + (name != "sft"))
    with _live(run, name, steps) as view:
        fit(
            name,
            run.folder / name,
            model,
            stream,
            config,
            run.compute,
            num_steps=steps,
            on_metrics=view.update,
            say=run.say,
        )
    return {"bits_per_byte": _bits_per_byte(run, model), "tokens_per_second": _speed(run, name), "steps": steps}


def rl(run: Run) -> Done:
    """Reinforcement learning on tasks that no demonstration covers."""
    config = run.recipe.rl
    assert config is not None
    model, chat = run.model_after("sft"), run.chat_format()
    prompts = PromptSource(
        *_prompt_pools(run.recipe, config),
        most_prompts=config.in_flight,
        rollouts_per_prompt=config.rollouts_per_prompt,
        seed=run.recipe.seed,
    )
    ptx = None
    if config.ptx_weight > 0:
        ptx = _dialogues(run, config.row_length, config.ptx_rows, seed=run.recipe.seed + 2, picked=True)
    with _live(run, "rl", config.steps) as view, _cluster(config) as make_players:
        reinforce(
            run.folder / "rl",
            model,
            chat,
            _engine_config(config.row_length, config.in_flight * config.rollouts_per_prompt),
            prompts,
            partial(make_env, worlds=run.recipe.worlds, gym=run.recipe.gym),
            ptx,
            config,
            run.compute,
            make_players=make_players,
            on_metrics=view.update,
            say=run.say,
        )
    return {"bits_per_byte": _bits_per_byte(run, model), "tokens_per_second": _speed(run, "rl")}


def _prompt_pools(recipe: Recipe, config: RLConfig) -> tuple[dict[str, Sequence[Task]], dict[str, float]]:
    """The tasks of each family that RL is for, apart from those of kinds that SFT shows too; and each pool's share.

    Raises ValueError for a family that no critic can judge.
    """
    pools, shares = dict[str, Sequence[Task]](), dict[str, float]()
    for family, share in config.families.items():
        pools[family], shares[family] = tasks(family, recipe.worlds, "rl", recipe.gym), share
        left_out = family == "tools" or family in recipe.gym.undemonstrated
        if config.shown_share and left_out and (shown := tasks(family, recipe.worlds, "train", recipe.gym)):
            pools[f"{family}-shown"] = shown
            shares |= {f"{family}-shown": share * config.shown_share, family: share * (1 - config.shown_share)}
        if config.critic and family in config.critic.families and "question" not in pools[family][0].payload:
            raise ValueError(
                f"rl.critic.families: tasks of {family} have no question that replies could be compared by"
            )
    return pools, shares


@contextmanager
def _cluster(config: RLConfig) -> Iterator[MakePlayers | None]:
    """Who plays beside the trainer's own processes: actors on the Ray cluster there is, or on one for this stage alone."""
    if config.rollout_workers is None:
        yield None
        return
    with connected(config.rollout_workers):
        yield partial(RayPlayers, config=ActorsConfig(config.rollout_workers))


def _dialogues(run: Run, row_length: int, batch_rows: int, *, seed: int, picked: bool = False) -> DialogueStream:
    """What SFT shows; ``picked``: what of it is without flaws (K2 §3.2, hand-selected samples for PTX)."""
    chat = run.chat_format()
    dialogues = read_dialogues(run.folder / "worlds" / "traces.jsonl", chat)
    assert run.recipe.sft is not None
    dialogues += [chat.encode(messages) for messages in _plain_dialogues(run.recipe, run.recipe.sft, picked)]
    return DialogueStream(
        dialogues, row_length=row_length, batch_rows=batch_rows, pad_id=chat.tokenizer.pad_id, seed=seed
    )


def _plain_dialogues(recipe: Recipe, config: SFTConfig, picked: bool = False) -> Iterator[list[Message]]:
    """What SFT shows beside tool trajectories: questions with their answers, and comparisons with their verdicts."""
    for family, limit in config.questions.items():
        shown = tasks(family, recipe.worlds, "train", recipe.gym)[:limit]
        yield from demonstrations(family, shown, config.flaw_rate, picked=picked)
    compare = recipe.rl.critic.compare if recipe.rl and recipe.rl.critic else CriticConfig()
    for pair in preference_pairs("train", config.critiques, recipe.seed):
        yield from (critique(pair, compare, swapped=swapped) for swapped in (False, True))


def _live(run: Run, stage: str, steps: int) -> LiveView:
    return LiveView(stage, num_steps=steps, budget_seconds=run.budget(stage), console=run.console)


def _engine_config(max_context: int, num_episodes: int) -> EngineConfig:
    return EngineConfig(max_rows=min(num_episodes, MOST_ROWS), max_context=max_context)


def _speed(run: Run, stage: str) -> float:
    rows = read_metrics(run.folder / stage / "metrics.jsonl")
    return statistics.median(row["tokens_per_second"] for row in rows)


def _bits_per_byte(run: Run, model: Transformer) -> float:
    config = run.recipe.pretrain
    sources = [source.name for source in run.recipe.data.sources]
    batches = heldout_batches(
        run.folder / "corpus", sources, row_length=config.row_length, batch_rows=config.micro_batch_rows
    )
    some = islice(batches, run.recipe.eval.heldout_batches)
    return bits_per_byte(model, some, run.compute.device, bf16=run.compute.bf16)


# ---------------------------------------------------------------------------------------------
# Evaluation and report
# ---------------------------------------------------------------------------------------------


def evaluate_all(run: Run) -> Done:
    """Every trained model on every set of held-out tool tasks."""
    for stage, after in (("base", "pretrain"), ("sft", "sft"), ("sft_control", "sft_control"), ("rl", "rl")):
        if run.done(after) is None:
            continue
        config = _engine_config(run.recipe.model.max_positions, run.recipe.eval.concurrency)
        engine = Engine(run.model_after(after), run.chat_format(), config)
        for task_set, split in EVAL_SETS.items():
            some = tasks("tools", run.recipe.worlds, split)[: run.recipe.eval.tasks_per_set]
            _evaluate(run, engine, stage, task_set, some)
            if run.recipe.eval.avg_k:
                _evaluate(run, engine, stage, task_set, some[: run.recipe.eval.avg_tasks_per_set], avg=True)
    return {}


def _evaluate(run: Run, engine: Engine, stage: str, task_set: str, some: Sequence[Task], *, avg: bool = False) -> None:
    """Pass@1, or Avg@k, of one model on one set; what an interrupted evaluation finished is kept."""
    config = run.recipe.eval
    budget = Budget(config.max_turns, config.max_tokens, engine.config.max_context)
    num_samples, temperature = (config.avg_k, config.avg_temperature) if avg else (1, config.temperature)
    with Progress(run.console) as progress:
        words = f"{stage} on {task_set}" + (f", Avg@{num_samples}" if avg else "")
        bar = progress.add_task(words, total=num_samples * len(some))
        results = asyncio.run(
            evaluate(
                engine,
                partial(make_env, "tools", run.recipe.worlds),
                some,
                run_episode=partial(run_episode, budget=budget, chat=engine.chat_format),
                sampling=Sampling(temperature=temperature, max_tokens=config.max_tokens),
                concurrency=config.concurrency,
                out_path=eval_path(run.folder, stage, task_set, avg=avg),
                policy_id=f"{run.recipe.fingerprint}/{stage}",
                seed=config.seed,
                num_samples=num_samples,
                app_of=lambda task: task.tags[0],
                on_trace=lambda _: progress.advance(bar),
            )
        )
    if not avg:
        rate = results.pass_at_1()
        run.say(f"  {stage} on {task_set}: {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}], n = {rate.n}")


def report(run: Run) -> None:
    """``summary.json`` and ``report.html`` of a finished run. Speed and bits per byte are the base model's; see "training"."""
    stages = _stages(run.recipe)
    done = {stage: finished for stage in stages if (finished := run.done(stage))}
    training = {
        stage: {"tokens_per_second": left["tokens_per_second"], "heldout_bits_per_byte": left["bits_per_byte"]}
        for stage, left in done.items()
        if "bits_per_byte" in left
    }
    write_json(
        run.folder / "summary.json",
        {
            "recipe": run.recipe.name,
            **done[stages[-1]]["made_by"],
            "seconds": {stage: round(left["seconds"], 1) for stage, left in done.items()},
            "budget_seconds": {stage: run.budget(stage) for stage in done},
            "peak_rss_bytes": max((left["peak_rss_bytes"] for left in done.values()), default=0),
            **training["pretrain"],
            "training": training,
            **summarize(run.folder),
        },
    )
    run.say(f"report: {write_report(run.folder)}")


WORK: Mapping[str, Callable[[Run], Done]] = {
    "worlds": make_worlds,
    "corpus": make_corpus,
    "pretrain": pretrain,
    "sft": sft,
    "rl": rl,
    "sft_control": sft_control,
    "eval": evaluate_all,
}
