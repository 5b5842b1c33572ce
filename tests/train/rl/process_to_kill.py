"""A stage of reinforcement learning in a process of its own, to be killed: ``python -m tests.train.rl.process_to_kill FOLDER STEPS THREADS``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from openk2.engine.config import EngineConfig
from openk2.optim.config import OptimConfig
from openk2.train.config import RLConfig
from openk2.train.rl.prompts import PromptSource
from openk2.train.rl.reinforce import reinforce
from openk2.train.step import Compute
from tests.train.episodes import VOCAB, BeginEnv, begin_env, make_agent, make_chat


def main(folder: Path, steps: int, threads: int) -> None:
    torch.set_num_threads(threads)
    chat = make_chat()
    model, _ = make_agent(chat)
    config = RLConfig(
        steps=steps, micro_batch_rows=8, row_length=128, prompts_per_step=2, rollouts_per_prompt=4, prompts_in_flight=6,
        families={"begin": 1.0}, max_tokens=80, max_turns=3, checkpoint_every=5, max_staleness=8, importance_cap=2.0,
        optim=OptimConfig(lr=0.005, adamw_lr=0.005, weight_decay=0.0),
    )  # fmt: skip
    prompts = PromptSource(
        {"begin": BeginEnv().tasks("rl")}, {"begin": 1.0}, most_prompts=6, rollouts_per_prompt=4, seed=0
    )
    stops = frozenset(range(VOCAB * 7 // 8, VOCAB))
    engine = EngineConfig(max_rows=64, max_context=128)
    reinforce(
        folder, model, chat, engine, prompts, begin_env, None, config, Compute(torch.device("cpu")), stop_ids=stops
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
