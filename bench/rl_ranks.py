"""Reinforcement learning on several processes: the same numbers from ranks, and what rollouts in Ray actors cost.

Ranks: the loss and gradient norm of the same traces on 1, 2 and 4 gloo processes. Three steps' rollouts of a model of the nano recipe's shape are dumped once, with the experts of every token. Each job then takes the
three steps on them, one after the other (routing replayed, so that rounding flips no choice of experts), from the same weights.

Actors: the same prompts with the same seeds (so the same tokens) played by two of the trainer's processes and by two Ray actors on this
machine, taking turns, a new version of the weights each time; medians. A weight update is from the trainer's call until all actors answer.

    python -m bench.rl_ranks
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import ray
import torch

from openk2.engine.config import EngineConfig
from openk2.engine.weights.config import WeightsConfig
from openk2.jobs.atomic import write_json, write_text
from openk2.jobs.provenance import provenance
from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.recipe import Recipe
from openk2.train.config import RLConfig
from openk2.train.ranks import job, launched
from openk2.train.replicas import Replicas
from openk2.train.rl.actors import ActorsConfig, RayPlayers
from openk2.train.rl.ledger import Ledger
from openk2.train.rl.reinforce import taught
from openk2.train.rl.rollout import Order, Played, Player, Playing, play, stop_playing
from openk2.train.step import Compute, training_step
from tests.train.episodes import VOCAB, make_agent, make_chat, make_groups, make_order, make_playing

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
SIZES = (1, 2, 4)
STEPS = 3
PROMPTS, ROLLOUTS = 8, 8
PLAYERS = 2
ITERATIONS = 7
PATIENCE = 600.0
CONFIG = RLConfig(
    steps=STEPS,
    micro_batch_rows=1,
    row_length=128,
    prompts_per_step=PROMPTS,
    rollouts_per_prompt=ROLLOUTS,
    families={"begin": 1.0},
    router_replay=True,
    importance_cap=2.0,
    max_staleness=STEPS,
    optim=OptimConfig(lr=0.0015, adamw_lr=0.002, weight_decay=0.0),
)


def nano() -> Transformer:
    """A model of the nano recipe's shape over the test's small vocabulary, its logits wide enough to differ."""
    config = Recipe.load(ROOT / "recipes" / "nano.toml").model
    changes = {"vocab_size": VOCAB, "start": "normal", "init_std": 0.1, "rope_theta": 10_000.0}
    return Transformer(type(config)(**(config.model_dump() | changes))).initialize(0)


def dump(folder: Path) -> None:
    """The batches of all steps, sampled under the first weights."""
    playing = playing_of(folder / "arrivals")
    ledger, player = Ledger(folder / "rollouts", {}, say=print), Player(nano(), playing)
    for step in range(1, STEPS + 1):
        groups = make_groups(PROMPTS, seed=step, first=PROMPTS * step)
        ledger.write_batch(step, player.play(make_order(playing, groups)).finished)
    player.close()


def steps(folder: Path) -> list[dict[str, float]]:
    """What the steps tell."""
    torch.set_num_threads(1)
    model, chat, cpu = nano(), make_chat(), Compute(torch.device("cpu"))
    ledger, optimizer = Ledger(folder / "rollouts", {}, say=print), MuonClip.for_model(model, CONFIG.optim)
    told = []
    with Replicas(model) as replicas:
        for step in range(1, STEPS + 1):
            samples, losses = taught(ledger.batch(step) or [], model, chat, CONFIG, cpu, weight_version=step - 1)
            row = training_step(replicas, optimizer, losses, lr_factor=1.0, balance_rate=1e-2)
            told.append({"loss": row["loss"], "grad_norm": row["grad_norm"], "log_ratio": row["log_ratio"]})
            told[-1] |= {"samples": len(samples), "micro_batches": len(losses)}
    return told


def as_rank(folder: Path) -> None:
    """One process of a job."""
    if not launched():
        write_json(folder / "told.json", steps(folder))
        return
    with job(PATIENCE) as leads:
        if leads:
            write_json(folder / "told.json", steps(folder))


def on(size: int, dumped: Path, folder: Path) -> list[dict[str, float]]:
    """What the steps tell on so many processes."""
    shutil.copytree(dumped, folder)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "-m", "--"]
    launcher = ["-m"] if size == 1 else torchrun
    command = [sys.executable, *launcher, "bench.rl_ranks", "--job", str(folder)]
    subprocess.run(command, check=True, timeout=PATIENCE, cwd=ROOT)
    return json.loads((folder / "told.json").read_text())


def agreement() -> dict:
    """Every size's numbers, and how far they are from those of one process."""
    with tempfile.TemporaryDirectory() as scratch:
        dumped = Path(scratch) / "dumped"
        dump(dumped)
        found = {size: on(size, dumped, Path(scratch) / str(size)) for size in SIZES}
    alone = found[1]
    furthest = {
        size: {
            name: max(abs(row[name] - one[name]) for row, one in zip(found[size], alone, strict=True))
            for name in ("loss", "grad_norm", "log_ratio")
        }
        for size in SIZES[1:]
    }
    return {"lr": CONFIG.optim.lr, "steps": found, "furthest_from_one_process": furthest}


def playing_of(folder: Path) -> Playing:
    """How the bench's prompts are played."""
    return make_playing(
        make_chat(),
        folder,
        engine=EngineConfig(max_rows=PROMPTS * ROLLOUTS, max_context=128, record_experts=True),
        rollouts_per_prompt=ROLLOUTS,
        stop_ids=frozenset(range(VOCAB * 7 // 8, VOCAB)),
        max_tokens=80,
        context=128,
    )


def orders(playing: Playing, version: int) -> list[Order]:
    """An iteration's, for two players."""
    groups = make_groups(PROMPTS, seed=version, first=PROMPTS * version)
    shares = [groups[process::PLAYERS] for process in range(PLAYERS)]
    return [
        make_order(playing, share, process=process, weight_version=version, oldest_version=version)
        for process, share in enumerate(shares)
    ]


def iteration(carry_out: Callable[[list[Order]], list[Played]], asked: list[Order]) -> tuple[float, list]:
    """Seconds, and the tokens that were drawn."""
    began = time.perf_counter()
    played = carry_out(asked)
    seconds = time.perf_counter() - began
    groups = sorted((group for each in played for group in each.finished), key=lambda group: group.number)
    return seconds, [trace.token_ids for group in groups for _, trace in sorted(group.finished.items())]


def costs(model: Transformer, via: Literal["shared", "gloo"], folder: Path) -> dict:
    """Iterations of the trainer's processes and of actors, and what bringing them the weights took."""
    here, there = playing_of(folder / "here"), playing_of(folder / "there")
    config = ActorsConfig(num=PLAYERS, weights=WeightsConfig(via=via))
    rows = []
    with Replicas(model, PLAYERS) as replicas, closing(RayPlayers(model, there, config)) as players:
        for version in range(ITERATIONS + 1):
            inside, tokens = iteration(partial(replicas.share_out, play), orders(here, version))
            outside, same = iteration(players.play, orders(there, version))
            assert tokens == same, "both play alike"
            rows.append({"inside": inside, "outside": outside, "update": players.update_seconds})
        replicas.share_out(stop_playing, [None] * PLAYERS)
    rows = rows[1:]  # the first compiles, and opens connections
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {
        "load": os.getloadavg()[0],  # with two of our own
        "megabytes": sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e6,
        "seconds": rows,
        "medians": medians,
        "overhead": statistics.median(row["outside"] / row["inside"] for row in rows) - 1,
    }


def actors() -> dict:
    """By model and by the way weights travel."""
    found = {}
    ray.init(num_cpus=PLAYERS, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    try:
        for name, model in (("tiny", make_agent(make_chat())[0]), ("nano", nano())):
            for via in ("shared", "gloo"):
                with tempfile.TemporaryDirectory() as folder:
                    found[f"{name}, {via}"] = costs(model, via, Path(folder))
                    print(name, via, found[f"{name}, {via}"]["medians"], flush=True)
    finally:
        ray.shutdown()
    return found


def report(found: dict) -> str:
    """As Markdown."""
    agreement, lines = (
        found["agreement"],
        [
            f"`{found['command']}`, commit {found['commit']}, {found['machine']}, torch {found['torch']}, {found['date']}.",
            "",
        ],
    )
    lines += [f"The same traces on 1, 2 and 4 gloo processes; routing replayed, learning rate {agreement['lr']}.", ""]
    lines += ["| processes | step | loss | gradient norm | log-ratio |", "|---|---|---|---|---|"]
    for size, rows in agreement["steps"].items():
        for number, row in enumerate(rows, start=1):
            told = f"{row['loss']:.8f} | {row['grad_norm']:.8f} | {row['log_ratio']:+.6f}"
            lines.append(f"| {size} | {number} | {told} |")
    furthest = agreement["furthest_from_one_process"]
    for size, by_name in furthest.items():
        lines += [
            "",
            f"{size} processes, furthest from one: " + ", ".join(f"{n} {x:.1e}" for n, x in by_name.items()) + ".",
        ]
    lines += [
        "",
        f"Rollouts by {PLAYERS} of the trainer's processes and by {PLAYERS} Ray actors, medians of {ITERATIONS} iterations.",
        "",
    ]
    lines += [
        "| model, weights by | weights MB | update ms | iteration inside s | by actors s | overhead | load |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found["actors"].items():
        medians = row["medians"]
        lines.append(
            f"| {name} | {row['megabytes']:.1f} | {medians['update'] * 1e3:.0f} | {medians['inside']:.2f} "
            f"| {medians['outside']:.2f} | {row['overhead']:+.0%} | {row['load']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "rl-ranks.json", help="where to write the JSON")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)  # the folder of one process of a job
    args = parser.parse_args()
    if args.job is not None:
        as_rank(args.job)
        return
    torch.set_num_threads(1)
    found = {"command": "python -m bench.rl_ranks", **provenance(), "agreement": agreement(), "actors": actors()}
    write_json(args.out, found)
    write_text(args.out.with_suffix(".md"), report(found))
    print(report(found))


if __name__ == "__main__":
    main()
