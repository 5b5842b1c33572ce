"""The optimizer step on CPU: MuonClip against other Muons, the floor of its matrix products, its share of training.

Every optimizer gets the same matrices, gradients and five quintic iterations; ours as the model stores them (expert
stacks, gate|up), the others a parameter for each matrix, as they ask for. All multiply in float32; torch.optim.Muon also as
it ships, in bfloat16, which a CPU without it multiplies 50 times slower. Steps alternate; medians count.

    python -m bench.muonclip --out results/muonclip.json [--peers FOLDER]

FOLDER holds checkouts of microsoft/dion and KellerJordan/Muon, each under its name; what is missing is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from bench.gpu import random_rows
from openk2.jobs.provenance import provenance
from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.optim.newton_schulz import CPU_BATCH_ELEMENTS, cheaper_form, products
from openk2.optim.owners import cost
from openk2.optim.qk_clip import clip_
from openk2.recipe.recipe import Recipe
from openk2.train.replicas import Replicas
from openk2.train.step import Batch, Compute, language_model_losses, training_step

STEPS = 5
# Of the large matrices, which take seconds.
FEW_ROUNDS = 3
AS_SHIPPED = "torch.optim.Muon as it ships, bfloat16"
NANO = Path(__file__).parents[1] / "recipes" / "nano.toml"


def stack(experts: int, rows: int, columns: int, pieces: tuple[tuple[str, int], ...] = ()) -> nn.Parameter:
    """A weight as a model stores it: a matrix, or a stack of experts, with what is fused in it."""
    shape = (experts, rows, columns) if experts else (rows, columns)
    parameter = nn.Parameter(torch.randn(shape) * 0.02)
    parameter.published = SimpleNamespace(role="experts" if experts else "matrix", heads=1, pieces=pieces)
    return parameter


def swiglu(experts: int, width: int, hidden: int) -> list[nn.Parameter]:
    """The two weights of a feed-forward: gate|up and down."""
    return [stack(experts, 2 * hidden, width, (("gate", hidden), ("up", hidden))), stack(experts, width, hidden)]


def cases() -> dict[str, list[nn.Parameter]]:
    """What is stepped: whole nano, and as much of a large layer as a CPU steps in seconds."""
    model = Transformer(Recipe.load(NANO).model).initialize(0)
    nano = [parameter for parameter in model.parameters() if parameter.published.role in ("matrix", "experts")]
    return {
        "nano, all matrices": nano,
        "an expert stack: 32 of 128 × 256": swiglu(32, 256, 128),
        "Moonlight-16B layer, 1 of 64 experts": swiglu(1, 2048, 1408),
        "Kimi K2 layer, down of 1 of 384 experts": [stack(1, 7168, 2048)],
    }


class Contestant:
    """An optimizer with its own copy of a case's weights."""

    def __init__(
        self, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], weights: list[nn.Parameter]
    ) -> None:
        self.weights = weights
        self.gradients = [torch.randn_like(weight) for weight in weights]
        self.optimizer = make(weights)

    def seconds(self) -> float:
        """One step; gradients are put back first, since some optimizers write into them."""
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient.clone()
        began = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - began

    def state_bytes(self) -> int:
        """What it remembers between steps."""
        states = self.optimizer.state.values()
        return sum(value.nbytes for state in states for value in state.values() if isinstance(value, Tensor))


def apart(weights: list[nn.Parameter]) -> list[nn.Parameter]:
    """A parameter for every matrix that Newton-Schulz gets."""
    plan = MuonClip([{"params": weights}], tau=None).plan()
    parts = [block.matrices(weight.detach()) for row, weight in zip(plan, weights, strict=True) for block in row.pieces]
    return [nn.Parameter(matrix.clone()) for part in parts for matrix in part]


def as_stored(weights: list[nn.Parameter]) -> list[nn.Parameter]:
    """A copy of the weights with what they publish."""
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    for copy, weight in zip(copies, weights, strict=True):
        copy.published = weight.published
    return copies


def peers(folder: Path | None) -> dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]]:
    """The other Muons that this machine has."""
    found: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
        "torch.optim.Muon": lambda weights: torch.optim.Muon(weights, lr=1e-3, adjust_lr_fn="match_rms_adamw")
    }
    if folder is None:
        return found
    keller = _module(folder / "Muon" / "muon.py")
    found["Keller Jordan's Muon"] = lambda weights: keller.SingleDeviceMuon(weights, lr=1e-3)
    sys.path.insert(0, str(folder / "dion"))
    try:
        from dion import Muon as DionMuon
    except ImportError as error:
        print(f"microsoft/dion is left out: {error}")
        return found

    # It compiles its step anew for every list of shapes.
    torch._dynamo.config.recompile_limit = 256

    def newton_schulz(x: Tensor, epsilon: float) -> Tensor:
        return keller.zeropower_via_newtonschulz5(x.float(), STEPS)

    found["microsoft/dion's Muon"] = lambda weights: DionMuon(
        weights, lr=1e-3, nesterov=True, adjust_lr="rms_norm", newton_schulz_func=newton_schulz
    )
    return found


def _module(path: Path) -> SimpleNamespace:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def float32_for_bfloat16() -> Iterator[None]:
    """Let ``x.bfloat16()`` give float32: the same algorithm in a precision this CPU multiplies."""
    before = Tensor.bfloat16
    Tensor.bfloat16 = Tensor.float
    try:
        yield
    finally:
        Tensor.bfloat16 = before


def floor(weights: list[nn.Parameter]) -> Callable[[], float]:
    """Seconds of the iterations' matrix products alone, in our batches, into memory that is there already."""
    shapes = Counter(tuple(sorted(matrix.shape)) for matrix in apart(weights))
    work = []
    for (n, m), count in shapes.items():
        batch = min(count, max(1, CPU_BATCH_ELEMENTS // (n * m)))
        y, gram, square, out = (torch.randn(batch, *shape) for shape in ((n, m), (n, n), (n, n), (n, m)))
        work.append((count, batch, cheaper_form(n, m, STEPS), y, gram, square, out))

    def wide_and_small(n: int, m: int, form: str) -> tuple[int, int]:
        total, square = products(n, m, STEPS, form), 2 * n**3
        wide = (2 if form == "gram" else STEPS) * 2
        return wide, (total - wide * 2 * n * n * m) // square

    def seconds() -> float:
        began = time.perf_counter()
        for count, batch, form, y, gram, square, out in work:
            wide, small = wide_and_small(*y.shape[1:], form)
            for start in range(0, count, batch):
                size = min(batch, count - start)
                for _ in range(wide // 2):
                    torch.bmm(y[:size], y[:size].mT, out=gram[:size])
                    torch.bmm(gram[:size], y[:size], out=out[:size])
                for _ in range(small):
                    torch.bmm(gram[:size], gram[:size], out=square[:size])
        return time.perf_counter() - began

    return seconds


def step_times(weights: list[nn.Parameter], rounds: int, peers_folder: Path | None) -> dict:
    """Alternating steps of every optimizer, and of the floor."""
    ours = Contestant(lambda ws: MuonClip([{"params": ws}], lr=1e-3, tau=None), as_stored(weights))
    others = {name: Contestant(make, apart(weights)) for name, make in peers(peers_folder).items()}
    least = floor(weights)
    runs: dict[str, list[float]] = {name: [] for name in ("openk2", "matrix products alone", *others)}
    as_shipped = None if rounds <= FEW_ROUNDS else Contestant(peers(None)["torch.optim.Muon"], apart(weights))
    if as_shipped is not None:
        runs[AS_SHIPPED] = []
    for turn in range(rounds + 1):
        told = {"openk2": ours.seconds(), "matrix products alone": least()}
        if as_shipped is not None and turn % 3 == 1:
            told[AS_SHIPPED] = as_shipped.seconds()
        with float32_for_bfloat16():
            told |= {name: contestant.seconds() for name, contestant in others.items()}
        for name, seconds in told.items() if turn else ():
            runs[name].append(seconds)
    against = {
        name: statistics.median(t / o for t, o in zip(times, runs["openk2"], strict=False))
        for name, times in runs.items()
    }
    return {
        "matrices": len(apart(weights)),
        "parameters": sum(weight.numel() for weight in weights),
        "median_seconds": {name: statistics.median(times) for name, times in runs.items()},
        "times_openk2": against,
        "state_bytes": {"openk2": ours.state_bytes()} | {name: c.state_bytes() for name, c in others.items()},
        "seconds": runs,
    }


def share_of_training(rows: int, rounds: int) -> dict:
    """What the optimizer and QK-Clip take of a nano training step of so many rows."""
    recipe = Recipe.load(NANO)
    recipe = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"batch_rows": rows})})
    model = Transformer(recipe.model).initialize(0)
    optimizer = MuonClip.for_model(model, recipe.pretrain.optim)
    compute, rng = Compute(torch.device("cpu")), np.random.default_rng(0)
    whole, steps, clips, looks = [], [], [], []
    batch = Batch.from_rows(random_rows(recipe, rng), compute.device)
    losses = language_model_losses(batch, compute, micro_batch_rows=recipe.pretrain.micro_batch_rows)
    with Replicas(model) as replicas:
        for turn in range(rounds + 1):
            began = time.perf_counter()
            training_step(replicas, optimizer, losses, lr_factor=1.0, balance_rate=0.0)
            whole_seconds = time.perf_counter() - began
            began = time.perf_counter()
            optimizer.step()
            step_seconds = time.perf_counter() - began
            began = time.perf_counter()
            clip_(model.attentions(), OptimConfig().tau)
            clip_seconds = time.perf_counter() - began
            if turn:
                whole.append(whole_seconds)
                steps.append(step_seconds)
                clips.append(clip_seconds)
    # What looking at the logits costs inside attention, on one process: its share of that process's time.
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        Replicas(model, 1).accumulate(losses[: max(1, len(losses) // 2)])
    averages = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    looks = sum(e.self_cpu_time_total for e in averages if e.key in ("aten::amax", "aten::maximum")) / total
    step = statistics.median(whole)
    return {
        "tokens": rows * recipe.pretrain.row_length,
        "training_step_seconds": step,
        "optimizer_share": statistics.median(steps) / step,
        "qk_clip_share": looks + statistics.median(clips) / step,
    }


def k2_extrapolated() -> dict:
    """The share of Newton-Schulz and of moving weights in K2's own step (K2 §2.5: 67M tokens), by formula.

    compute = Σ products / (6 · active parameters · tokens · u), u the ratio of the efficiency of Newton-Schulz to
    that of training, taken as 1; communication = 2 bytes · parameters of a rank / bandwidth, over the step's time.
    """
    experts, layers, tokens, active, total = 384, 60, 67e6, 32.6e9, 1.03e12
    expert = 3 * cost(2048, 7168, STEPS)
    attention = sum(
        count * cost(n, m, STEPS)
        for count, n, m in (
            (1, 1536, 7168),
            (1, 12288, 1536),
            (1, 576, 7168),
            (2, 8192, 512),
            (1, 7168, 8192),
        )
    )
    newton_schulz = layers * (experts + 1) * expert + (layers + 1) * attention
    training = 6 * active * tokens
    ranks, flops, bandwidth = 256, 300e12, 50e9
    step_seconds = training / ranks / flops
    return {
        "newton_schulz_flops": newton_schulz,
        "training_flops": training,
        "compute_share": newton_schulz / training,
        "assumed": {"ranks_of_a_replica": ranks, "flops_a_rank": flops, "bytes_a_second": bandwidth},
        "communication_share": 2 * total / ranks / bandwidth / step_seconds,
    }


def table(results: dict) -> str:
    """The figures in Markdown."""
    p = results["provenance"]
    lines = [
        f"`python -m bench.muonclip`, commit {p['commit']}, {p['machine']}, torch {p['torch']}, {p['date']}.",
        "Median seconds of an optimizer step, everything in float32 unless said otherwise; in brackets how many times ours.",
        "",
    ]
    names = list(dict.fromkeys(name for case in results["steps"].values() for name in case["median_seconds"]))
    lines += [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for title, case in results["steps"].items():
        cells = []
        for name in names:
            seconds = case["median_seconds"].get(name, math.nan)
            ratio = "" if name == "openk2" else f" ({case['times_openk2'].get(name, math.nan):.2f})"
            cells.append("" if math.isnan(seconds) else f"{seconds:.3f}{ratio}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "| tokens a nano step | optimizer | QK-Clip with its statistics |", "|---|---|---|"]
    lines += [
        f"| {s['tokens']} | {s['optimizer_share']:.1%} | {s['qk_clip_share']:.2%} |" for s in results["training_shares"]
    ]
    k2 = results["k2"]
    lines += [
        "",
        f"Kimi K2 at 67M tokens a step, by formula: Newton-Schulz {k2['compute_share']:.2%} of the training's operations, "
        f"moving updated weights {k2['communication_share']:.2%} of the step's time (256 ranks a replica, 300 TFLOP/s each, 50 GB/s).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/muonclip.json"), help="where to write the JSON")
    parser.add_argument("--peers", type=Path, help="folder with checkouts of dion and Muon")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds after one to warm up")
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.peers is None:
        print("no --peers folder: torch.optim.Muon alone")
    results: dict = {"provenance": provenance(), "steps": {}}
    for title, weights in cases().items():
        large = max(weight.numel() for weight in weights) > 2**21
        results["steps"][title] = step_times(
            weights, min(args.rounds, FEW_ROUNDS) if large else args.rounds, args.peers
        )
        ratios = {n: f"{r:.2f}" for n, r in results["steps"][title]["times_openk2"].items()}
        print(f"{title}: {ratios}", flush=True)
    results["training_shares"] = [share_of_training(rows, args.rounds) for rows in (8, 64)]
    results["k2"] = k2_extrapolated()
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
