"""Training step on CPU: openk2 against transformers' DeepseekV3ForCausalLM, same shapes, same loss, fp32.

A step is forward, loss, backward as each trains; no optimizer on either side. Ours is the training step's own
accumulation: two rows at a time, in a process for each core, max logits observed. Transformers takes the batch whole
and PyTorch's cross-entropy.
Every expert implementation and precision of transformers is first tried on a few tokens; those within
twice the best there run at full size, alternating with ours. Reported: medians over rounds, and the median of
the per-round ratios.

    python bench/train_speed.py --out results/train-speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from openk2.jobs.provenance import provenance
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.train.replicas import Replicas
from openk2.train.step import Batch, Compute, language_model_losses

CONFIG = ModelConfig(
    vocab_size=4096,
    hidden_size=256,
    num_layers=6,
    num_dense_layers=1,
    intermediate_size=512,
    moe_intermediate_size=128,
    num_heads=4,
    kv_lora_rank=128,
    qk_nope_head_dim=64,
    qk_rope_head_dim=32,
    v_head_dim=64,
    num_experts=32,
    num_experts_per_token=4,
    num_shared_experts=1,
    rope_theta=10_000.0,
)
EXPERT_IMPLEMENTATIONS = ("grouped_mm", "batched_mm", "eager")
WORTH_FULL_SIZE = 2.0
MICRO_BATCH_ROWS = 2


def peer(experts: str, dtype: torch.dtype) -> transformers.DeepseekV3ForCausalLM:
    """The same model from transformers."""
    c = CONFIG
    config = transformers.DeepseekV3Config(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.num_layers,
        first_k_dense_replace=c.num_dense_layers,
        intermediate_size=c.intermediate_size,
        moe_intermediate_size=c.moe_intermediate_size,
        num_attention_heads=c.num_heads,
        num_key_value_heads=c.num_heads,
        q_lora_rank=c.q_lora_rank,
        kv_lora_rank=c.kv_lora_rank,
        qk_nope_head_dim=c.qk_nope_head_dim,
        qk_rope_head_dim=c.qk_rope_head_dim,
        v_head_dim=c.v_head_dim,
        n_routed_experts=c.num_experts,
        num_experts_per_tok=c.num_experts_per_token,
        n_shared_experts=c.num_shared_experts,
        n_group=1,
        topk_group=1,
        routed_scaling_factor=c.routed_scaling_factor,
        max_position_embeddings=c.max_positions,
        use_cache=False,
        attn_implementation="sdpa",
        experts_implementation=experts,
    )
    torch.manual_seed(0)
    return transformers.DeepseekV3ForCausalLM(config).to(dtype).train()


# Leaves the gradients of a batch of tokens in its model.
Step = Callable[[Tensor], object]


def seconds_of(step: Step, tokens_BT: Tensor) -> float:
    """Seconds of one training step without the optimizer."""
    began = time.perf_counter()
    step(tokens_BT)
    return time.perf_counter() - began


def ours(replicas: Replicas) -> Step:
    """What ``training_step`` does before the optimizer."""
    compute = Compute(torch.device("cpu"))

    def step(tokens_BT: Tensor) -> object:
        mask_BT, docs_BT = torch.ones_like(tokens_BT, dtype=torch.bool), torch.zeros_like(tokens_BT)
        batch = Batch(tokens_BT, mask_BT, docs_BT, torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT))
        return replicas.accumulate(language_model_losses(batch, compute, micro_batch_rows=MICRO_BATCH_ROWS))

    return step


def theirs(experts: str, dtype: torch.dtype) -> Step:
    """Their model with the plain loss over its logits."""
    model = peer(experts, dtype)

    def step(tokens_BT: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        # Targets are shifted, not logits: nobody copies the largest tensor.
        targets_BT = F.pad(tokens_BT[:, 1:], (0, 1), value=-100)
        F.cross_entropy(model(tokens_BT).logits.float().flatten(0, 1), targets_BT.flatten()).backward()

    return step


def screen(tokens_BT: Tensor) -> dict[str, float]:
    """Best of two small steps, in seconds, of every setting transformers offers."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        for experts in EXPERT_IMPLEMENTATIONS:
            step = theirs(experts, dtype)
            name = f"{experts} {str(dtype).removeprefix('torch.')}"
            seconds[name] = min(seconds_of(step, tokens_BT) for _ in range(2))
            print(f"  few tokens: {name:24s} {seconds[name] * 1e3:8.0f} ms", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/train-speed.json"), help="where to write the JSON")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds after one to warm up")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(CONFIG.vocab_size, (8, 512), generator=generator)

    screened = screen(tokens_BT[:1, :128])
    limit = WORTH_FULL_SIZE * min(screened.values())
    settings = [name for name, seconds in screened.items() if seconds <= limit]
    replicas = Replicas(Transformer(CONFIG).initialize(0).train())
    steps = {"openk2": ours(replicas)}
    for name in settings:
        experts, dtype = name.split()
        # A gathered copy of every chosen expert's weights: 6 GB a layer at full size.
        if experts != "batched_mm":
            steps[f"transformers {name}"] = theirs(experts, getattr(torch, dtype))
    runs: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(args.rounds + 1):
        for name, step in steps.items():
            seconds = seconds_of(step, tokens_BT)
            if turn:
                runs[name].append(seconds)
        print(f"  round {turn}: " + ", ".join(f"{n} {r[-1]:.2f} s" for n, r in runs.items() if r), flush=True)

    replicas.close()
    medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
    best = min((name for name in medians if name != "openk2"), key=medians.__getitem__)
    ratio = statistics.median(t / o for t, o in zip(runs[best], runs["openk2"], strict=True))
    print(f"\n{'':32s}{'median s':>10s}{'min s':>8s}{'tokens/s':>10s}")
    for name, median in medians.items():
        print(f"{name:32s}{median:10.3f}{min(runs[name]):8.3f}{tokens_BT.numel() / median:10.0f}")
    print(f"\nopenk2 is {ratio:.2f}× {best} (median of per-round ratios)")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps(
                {
                    "command": "python -m bench.train_speed",
                    **provenance(),
                    "transformers": transformers.__version__,
                    "config": CONFIG.model_dump(),
                    "tokens": list(tokens_BT.shape),
                    "few_tokens_seconds": screened,
                    "seconds": runs,
                    "median_seconds": medians,
                    "best_peer": best,
                    "ratio": ratio,
                },
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
