"""What needs a CUDA device: the tests marked ``gpu``, the micro recipe's speed, and the stability study at a larger scale.

Training: the recipe's own pre-training step, MuonClip and QK-Clip included, on random tokens. Decoding: the engine
on as many sequences at once as the recipe's RL step rolls out. Weights are random: routing is near even. The study: its first
four arms, two seeds.

    python -m bench.gpu --out results/gpu.json
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.model.transformer import Transformer
from openk2.optim.muonclip import MuonClip
from openk2.recipe import Recipe
from openk2.schema import Sampling
from openk2.studies import stability
from openk2.text.packing import Rows
from openk2.train.replicas import Replicas
from openk2.train.step import Batch, Compute, language_model_losses, training_step

ROOT = Path(__file__).parents[1]
WARM_UP_STEPS = 3
PROMPT_TOKENS = 256
ANSWER_TOKENS = 128


def gpu_tests() -> dict[str, Any]:
    """Run ``pytest -m gpu``; its exit code and last line."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--timeout=0", "tests"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(ended.stdout[-4000:], ended.stderr[-2000:], flush=True)
    said = ended.stdout.strip().splitlines() or [""]
    return {"passed": ended.returncode == 0, "said": said[-1]}


def random_rows(recipe: Recipe, rng: np.random.Generator) -> Rows:
    """A batch of rows, each two documents of random tokens."""
    shape = (recipe.pretrain.batch_rows, recipe.pretrain.row_length)
    half = shape[1] // 2
    place = np.arange(shape[1])
    mask = np.broadcast_to((place != 0) & (place != half), shape).copy()
    doc_ids = np.broadcast_to((place >= half).astype(np.int64), shape).copy()
    positions = np.broadcast_to(np.where(place < half, place, place - half), shape).copy()
    return Rows(rng.integers(0, recipe.model.vocab_size, shape), mask, doc_ids, positions)


def training_speed(recipe: Recipe, compute: Compute, num_steps: int) -> dict[str, Any]:
    """Tokens per second of the pre-training step: median, and all of them."""
    config = recipe.pretrain
    model = Transformer(recipe.model).initialize(recipe.seed).to(compute.device)
    optimizer = MuonClip.for_model(model, config.optim)
    replicas = Replicas(model)
    rng = np.random.default_rng(0)
    torch.cuda.reset_peak_memory_stats()
    speeds, loss = [], 0.0
    for step in range(WARM_UP_STEPS + num_steps):
        batch = Batch.from_rows(random_rows(recipe, rng), compute.device)
        torch.cuda.synchronize()
        started = time.perf_counter()
        losses = language_model_losses(batch, compute, micro_batch_rows=config.micro_batch_rows)
        loss = training_step(replicas, optimizer, losses, lr_factor=1.0, balance_rate=config.balance_rate)["loss"]
        torch.cuda.synchronize()
        if step >= WARM_UP_STEPS:
            speeds.append(batch.tokens_BT.numel() / (time.perf_counter() - started))
        print(f"  training step {step}: loss {loss:.3f}", flush=True)
    return {
        "tokens_per_second": statistics.median(speeds),
        "every_step": speeds,
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "last_loss": loss,
    }


def decoding_speed(recipe: Recipe, compute: Compute) -> dict[str, Any]:
    """Sampled tokens per second of the engine; every answer has the same length, since nothing stops it."""
    assert recipe.rl is not None
    width = recipe.rl.prompts_per_step * recipe.rl.rollouts_per_prompt
    model = Transformer(recipe.model).initialize(recipe.seed).to(compute.device)
    config = EngineConfig(max_rows=width, max_context=PROMPT_TOKENS + ANSWER_TOKENS)
    engine = Engine(model, None, config, stop_ids=frozenset())
    rng = random.Random(0)
    prompts = [rng.choices(range(recipe.model.vocab_size), k=PROMPT_TOKENS) for _ in range(recipe.rl.prompts_per_step)]

    async def everything(max_tokens: int) -> None:
        await asyncio.gather(
            *(
                engine.sample(prompts[i % len(prompts)], Sampling(1.0, max_tokens=max_tokens, seed=i))
                for i in range(width)
            )
        )

    asyncio.run(everything(8))  # warm up
    before = engine.num_sampled_tokens
    torch.cuda.synchronize()
    started = time.perf_counter()
    asyncio.run(everything(ANSWER_TOKENS))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    num_tokens = engine.num_sampled_tokens - before
    return {
        "tokens_per_second": num_tokens / seconds,
        "sequences": width,
        "prompt": PROMPT_TOKENS,
        "answer": ANSWER_TOKENS,
    }


def stability_study(num_steps: int) -> list[dict[str, Any]]:
    """Muon and AdamW, each with the clip and without: the loss a run ends at, its largest logits, how many heads it clips."""
    found = []
    for arm, seed in itertools.product(stability.ARMS[:4], range(2)):
        started = time.perf_counter()
        curves = stability.run(arm, seed, num_steps, stability.ONE_GPU)
        found.append(
            {
                "arm": arm.name,
                "seed": seed,
                "steps": num_steps,
                "seconds": time.perf_counter() - started,
                "loss": stability.end_of(curves["loss"]),
                "largest_logit": max(curves["max_logit"]),
                "clipped_at_the_end": statistics.mean(curves["clipped"][-max(1, num_steps // 10) :]),
                "spikes": stability.spikes(curves["loss"]),
                "curves_every_20": {name: curves[name][::20] for name in ("loss", "max_logit", "clipped")},
            }
        )
        print(
            f"  {arm.name}, seed {seed}: loss {found[-1]['loss']:.3f}, largest {found[-1]['largest_logit']:.0f}",
            flush=True,
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "results" / "gpu.json", help="where to write the measurement"
    )
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "micro.toml")
    parser.add_argument("--steps", type=int, default=20, help="training steps after those to warm up")
    parser.add_argument("--study-steps", type=int, default=500, help="steps of a run of the study")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"bench.gpu: torch {torch.__version__} sees no CUDA device here, so nothing was measured")
        return 0
    recipe = Recipe.load(args.recipe)
    compute = Compute(torch.device("cuda"), bf16=True)
    tests = gpu_tests()
    training = training_speed(recipe, compute, args.steps)
    decoding = decoding_speed(recipe, compute)
    study = stability_study(args.study_steps)
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    found = {
        "command": "python -m bench.gpu " + " ".join(sys.argv[1:]),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "recipe": recipe.name,
        "tests": tests,
        "training": training,
        "decoding": decoding,
        "stability": study,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"training {training['tokens_per_second']:,.0f} tokens/s, decoding {decoding['tokens_per_second']:,.0f} tokens/s"
    )
    print(f"tests: {tests['said']}; written to {args.out}")
    return 0 if tests["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
