"""Sampling on CPU: openk2's engine against transformers and vLLM, same weights, greedy, 64 + 64 tokens.

Every setting of a peer (expert implementation, threads) is tried on a few tokens first; the best for each batch and
type runs at full size, alternating with ours. vLLM needs an environment of its own (bench/vllm_peer.py says how):
without ``--vllm`` it is left out. Decoding speed leaves the prompt out: the time for 64 tokens less
the time for one. In float32 both must give the same tokens. Reported: medians over rounds, and the median of the
per-round ratios. Then how far sampled log-probabilities lie from a trainer's, and the time to the first token of a
prompt whose first 512 tokens were met before.

    python -m bench.engine --vllm VLLM_ENV/bin/python
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from openk2.schema import Sampled, Sampling

PROMPT, ANSWER, FEW, PREFIX, TAIL = 64, 64, 13, 512, 16
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


def vllm(python: str, folder: Path, stack: ExitStack) -> Generate:
    """VLLM in its own process."""
    command = [python, "bench/vllm_peer.py", str(folder), "--rows", str(max(BATCHES)), "--context", "256"]
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, told = process.stdin, process.stdout
    stack.callback(asked.close)
    print(f"vLLM {json.loads(told.readline())['vllm']} is ready", flush=True)

    def generate(prompts_BT: Tensor, num_tokens: int) -> list[list[int]]:
        print(json.dumps({"prompts": prompts_BT.tolist(), "num_tokens": num_tokens}), file=asked, flush=True)
        return json.loads(told.readline())

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
    tried = {name: min(decode_seconds(way, prompts_BT, FEW) for _ in range(3)) for name, way in settings.items()}
    best = min(tried, key=tried.__getitem__)
    return best, settings[best]


def compare(
    model: Transformer, folder: Path, dtype: torch.dtype, rounds: int, vllm_way: Generate | None
) -> Iterator[dict]:
    """Every engine at every batch size."""
    ways = {"openk2": {f"{threads} threads": ours(model, threads) for threads in THREADS}}
    ways["transformers"] = {
        f"{experts}, {threads} threads": theirs(folder, dtype, experts, threads)
        for experts, threads in itertools.product(EXPERT_IMPLEMENTATIONS, THREADS)
    }
    if vllm_way is not None:
        ways["vLLM"] = {"compiled, 2 threads": vllm_way}
    for batch in BATCHES:
        generator = torch.Generator().manual_seed(batch)
        prompts_BT = torch.randint(1, CONFIG.vocab_size, (batch, PROMPT), generator=generator)
        chosen: dict[str, tuple[str, Generate]] = {}
        for engine, settings in ways.items():
            # A gathered copy of every chosen expert's weights: many GB for the prompts of a batch.
            chosen[engine] = best_of(
                {n: w for n, w in settings.items() if batch == 1 or "batched" not in n}, prompts_BT
            )
        seconds: dict[str, list[float]] = {engine: [] for engine in chosen}
        for _ in range(rounds):
            for engine, (_, way) in chosen.items():
                seconds[engine].append(decode_seconds(way, prompts_BT, ANSWER))
        tokens = {engine: way(prompts_BT, ANSWER) for engine, (_, way) in chosen.items()}
        row = {
            "dtype": str(dtype).removeprefix("torch."),
            "batch": batch,
            "setting": {engine: name for engine, (name, _) in chosen.items()},
            "tokens_per_second": {engine: batch / statistics.median(all_) for engine, all_ in seconds.items()},
            "times_peer": {
                engine: statistics.median(t / o for t, o in zip(all_, seconds["openk2"], strict=True))
                for engine, all_ in seconds.items()
            },
            # bfloat16 rounds differently in every implementation.
            "same_tokens": {e: t == tokens["openk2"] for e, t in tokens.items()} if dtype == torch.float32 else None,
        }
        print(row, flush=True)
        yield row


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


def logprob_gap(model: Transformer) -> dict:
    """How far log-probabilities sampled in a batch lie from those a trainer's forward gives the same tokens."""
    engine = Engine(model, None, EngineConfig(max_rows=max(BATCHES), max_context=256), stop_ids=frozenset())
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(1, CONFIG.vocab_size, (16, PROMPT), generator=generator).tolist()

    async def run() -> list[Sampled]:
        asked = [engine.sample(p, Sampling(temperature=1.0, max_tokens=ANSWER, seed=i)) for i, p in enumerate(prompts)]
        return await asyncio.gather(*asked)

    samples = asyncio.run(run())
    scored = engine.score([prompt + sampled.token_ids for prompt, sampled in zip(prompts, samples, strict=True)])
    gaps = torch.tensor(
        [
            abs(ours - trainers)
            for sampled, logprobs in zip(samples, scored, strict=True)
            for ours, trainers in zip(sampled.logprobs, logprobs[PROMPT - 1 :], strict=True)
        ]
    )
    return {"dtype": str(model.lm_head.weight.dtype)[6:], "mean": float(gaps.mean()), "largest": float(gaps.max())}


def table(results: dict) -> str:
    """The figures in Markdown."""
    p, shared = results["provenance"], results["shared_prefix"]
    lines = [
        f"`python -m bench.engine`, commit {p['commit']}, {p['machine']}, torch {p['torch']}, "
        f"transformers {results['transformers']}, {p['date']}.",
        f"Decoding after {PROMPT} prompt tokens, greedy, {ANSWER} tokens; medians of {results['rounds']} alternating rounds.",
        "",
        "| type | batch | engine | tokens/s | openk2 is faster by | same tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["decode"]:
        for engine, rate in row["tokens_per_second"].items():
            ours = engine == "openk2"
            faster = "" if ours else f"{row['times_peer'][engine]:.1f}"
            same = "" if ours or row["same_tokens"] is None else ("yes" if row["same_tokens"][engine] else "no")
            lines.append(
                f"| {row['dtype']} | {row['batch']} | {engine}, {row['setting'][engine]} | {rate:.0f} | {faster} | {same} |"
            )
    lines += [
        "",
        f"First token of a prompt of {PREFIX} + {TAIL} tokens: {shared['first_seconds'] * 1e3:.0f} ms; of another with the "
        f"same first {PREFIX}: {shared['later_seconds'] * 1e3:.1f} ms, {shared['ratio']:.1f} times faster.",
    ]
    lines += [
        f"Log-probabilities of {16 * ANSWER} tokens sampled at 16 a batch, against a trainer's forward in {gap['dtype']}: "
        f"{gap['mean']:.1e} apart in the mean, {gap['largest']:.1e} at most."
        for gap in results["logprob_gaps"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/engine.json"), help="where to write the JSON")
    parser.add_argument("--vllm", metavar="PYTHON", help="the Python of an environment with vLLM's CPU build")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    args = parser.parse_args()
    model = Transformer(CONFIG).initialize(0).eval()
    results: dict = {
        "provenance": provenance(),
        "transformers": transformers.__version__,
        "rounds": args.rounds,
        "config": CONFIG.model_dump(),
        "logprob_gaps": [],
        "decode": [],
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
        save_hf(model, folder, dtype=torch.float32)
        vllm_way = None if args.vllm is None else vllm(args.vllm, folder, stack)
        results["shared_prefix"] = first_token(model, args.rounds)
        for dtype, peer in ((torch.float32, vllm_way), (torch.bfloat16, None)):
            results["logprob_gaps"].append(logprob_gap(model.to(dtype)))
            for row in compare(model, folder, dtype, args.rounds, peer):
                results["decode"].append(row)
                # The last rows take minutes: what is measured is kept.
                args.out.write_text(json.dumps(results, indent=1) + "\n")
                args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
