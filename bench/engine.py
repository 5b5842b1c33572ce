"""Sampling on CPU: openk2's engine against transformers' ``generate``, same weights, greedy, 64 + 64 tokens.

Every setting of transformers (expert implementation, threads) is tried on a few tokens first; the best for each batch
and type runs at full size, alternating with ours. Decoding speed leaves the prompt out: the time for 64 tokens less
the time for one. In float32 both must give the same tokens. Reported: medians over rounds, and the median of the
per-round ratios. Then the time to the first token of a prompt whose first 512 tokens were met before.

    python -m bench.engine --out results/engine.json
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor

from bench.train_speed import CONFIG, EXPERT_IMPLEMENTATIONS
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.jobs.provenance import provenance
from openk2.model.hf import save_hf
from openk2.model.transformer import Transformer
from openk2.schema import Sampling

PROMPT, ANSWER, PREFIX, TAIL = 64, 64, 512, 16
BATCHES = (1, 16, 64)
THREADS = (1, 2)

# Continues prompts [B, T] by so many tokens; the tokens.
Generate = Callable[[Tensor, int], list[list[int]]]


def ours(model: Transformer, threads: int) -> Generate:
    """The engine; nothing is cached from one call to the next."""
    engine = Engine(model, None, EngineConfig(max_rows=max(BATCHES), max_context=256), stop_ids=frozenset())

    def generate(prompts_BT: Tensor, num_tokens: int) -> list[list[int]]:
        torch.set_num_threads(threads)
        engine.update_weights(engine.weight_version + 1)

        async def run() -> list[list[int]]:
            sampling = Sampling(temperature=0.0, max_tokens=num_tokens)
            samples = await asyncio.gather(*(engine.sample(prompt, sampling) for prompt in prompts_BT.tolist()))
            return [sampled.token_ids for sampled in samples]

        return asyncio.run(run())

    return generate


def theirs(folder: Path, dtype: torch.dtype, experts: str, threads: int) -> Generate:
    """Transformers with its key-value cache."""
    model = transformers.DeepseekV3ForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", experts_implementation=experts
    ).eval()

    def generate(prompts_BT: Tensor, num_tokens: int) -> list[list[int]]:
        torch.set_num_threads(threads)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out_BT = model.generate(
                prompts_BT,
                attention_mask=torch.ones_like(prompts_BT),
                max_new_tokens=num_tokens,
                min_new_tokens=num_tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        return out_BT[:, prompts_BT.shape[1] :].tolist()

    return generate


def seconds_of(generate: Generate, prompts_BT: Tensor, num_tokens: int) -> float:
    """One call."""
    began = time.perf_counter()
    generate(prompts_BT, num_tokens)
    return time.perf_counter() - began


def decode_seconds(generate: Generate, prompts_BT: Tensor, num_tokens: int) -> float:
    """Seconds a token of every sequence takes once the prompt is read."""
    first = seconds_of(generate, prompts_BT, 1)
    return (seconds_of(generate, prompts_BT, num_tokens) - first) / (num_tokens - 1)


def best_of(settings: dict[str, Generate], prompts_BT: Tensor) -> tuple[str, Generate]:
    """The fastest on a few tokens."""
    tried = {name: min(decode_seconds(way, prompts_BT, 9) for _ in range(2)) for name, way in settings.items()}
    best = min(tried, key=tried.__getitem__)
    return best, settings[best]


def compare(model: Transformer, folder: Path, dtype: torch.dtype, rounds: int) -> list[dict]:
    """Both engines at every batch size."""
    our_ways = {f"{threads} threads": ours(model, threads) for threads in THREADS}
    their_ways = {
        f"{experts}, {threads} threads": theirs(folder, dtype, experts, threads)
        for experts, threads in itertools.product(EXPERT_IMPLEMENTATIONS, THREADS)
    }
    rows = []
    for batch in BATCHES:
        generator = torch.Generator().manual_seed(batch)
        prompts_BT = torch.randint(1, CONFIG.vocab_size, (batch, PROMPT), generator=generator)
        # A gathered copy of every chosen expert's weights: many GB for the prompts of a batch.
        possible = {n: way for n, way in their_ways.items() if batch == 1 or "batched" not in n}
        (our_name, our_way), (their_name, their_way) = best_of(our_ways, prompts_BT), best_of(possible, prompts_BT)
        pairs = [
            (decode_seconds(our_way, prompts_BT, ANSWER), decode_seconds(their_way, prompts_BT, ANSWER))
            for _ in range(rounds)
        ]
        same = None
        if dtype == torch.float32:
            same = our_way(prompts_BT, ANSWER) == their_way(prompts_BT, ANSWER)
        rows.append(
            {
                "dtype": str(dtype).removeprefix("torch."),
                "batch": batch,
                "openk2": our_name,
                "transformers": their_name,
                "openk2_tokens_per_second": batch / statistics.median(ours for ours, _ in pairs),
                "transformers_tokens_per_second": batch / statistics.median(theirs for _, theirs in pairs),
                "ratio": statistics.median(theirs / ours for ours, theirs in pairs),
                "same_tokens": same,
            }
        )
        print(rows[-1], flush=True)
    return rows


def first_token(model: Transformer, rounds: int) -> dict:
    """Seconds to the first token of prompts that share their beginning: the first one, and a later one."""
    engine = Engine(model, None, EngineConfig(max_rows=4, max_context=1024), stop_ids=frozenset())
    torch.set_num_threads(THREADS[-1])
    generator = torch.Generator().manual_seed(0)

    def ask(prompt: list[int]) -> float:
        began = time.perf_counter()
        asyncio.run(engine.sample(prompt, Sampling(temperature=0.0, max_tokens=1)))
        return time.perf_counter() - began

    def drawn(length: int) -> list[int]:
        return torch.randint(1, CONFIG.vocab_size, (length,), generator=generator).tolist()

    ask(drawn(PREFIX + TAIL))
    pairs = []
    for _ in range(rounds):
        prefix = drawn(PREFIX)
        pairs.append((ask(prefix + drawn(TAIL)), ask(prefix + drawn(TAIL))))
    return {
        "prefix": PREFIX,
        "tail": TAIL,
        "first_seconds": statistics.median(first for first, _ in pairs),
        "later_seconds": statistics.median(later for _, later in pairs),
        "ratio": statistics.median(first / later for first, later in pairs),
    }


def table(results: dict) -> str:
    """The figures in Markdown."""
    p, shared = results["provenance"], results["shared_prefix"]
    lines = [
        f"`python -m bench.engine`, commit {p['commit']}, {p['machine']}, torch {p['torch']}, "
        f"transformers {results['transformers']}, {p['date']}.",
        f"Decoding after {PROMPT} prompt tokens, greedy, {ANSWER} tokens; medians of {results['rounds']} alternating rounds.",
        "",
        "| type | batch | openk2, tokens/s | transformers, tokens/s | ratio | same tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["decode"]:
        same = {None: "", True: "yes", False: "no"}[row["same_tokens"]]
        lines.append(
            f"| {row['dtype']} | {row['batch']} | {row['openk2_tokens_per_second']:.0f} ({row['openk2']}) | "
            f"{row['transformers_tokens_per_second']:.0f} ({row['transformers']}) | {row['ratio']:.1f} | {same} |"
        )
    lines += [
        "",
        f"First token of a prompt of {PREFIX} + {TAIL} tokens: {shared['first_seconds'] * 1e3:.0f} ms; of another with the "
        f"same first {PREFIX}: {shared['later_seconds'] * 1e3:.1f} ms, {shared['ratio']:.1f} times faster.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/engine.json"), help="where to write the JSON")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    args = parser.parse_args()
    model = Transformer(CONFIG).initialize(0).eval()
    results: dict = {
        "provenance": provenance(),
        "transformers": transformers.__version__,
        "rounds": args.rounds,
        "config": CONFIG.model_dump(),
        "decode": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        save_hf(model, Path(folder) / "model", dtype=torch.float32)
        for dtype in (torch.float32, torch.bfloat16):
            results["decode"] += compare(model.to(dtype), Path(folder) / "model", dtype, args.rounds)
    results["shared_prefix"] = first_token(model.float(), args.rounds)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
