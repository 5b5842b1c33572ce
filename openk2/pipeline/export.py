"""A run's model in the layout others read: config, tokenizer and safetensors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from openk2.model.hf import save_hf
from openk2.pipeline.folder import Run

NEWEST_FIRST = ("rl", "sft", "pretrain")


def newest_stage(run: Run) -> str:
    """The last training stage that is done. Raises ValueError when none is."""
    for stage in NEWEST_FIRST:
        if run.done(stage) is not None:
            return stage
    raise ValueError(f"{run.folder} holds no trained model yet: none of {', '.join(NEWEST_FIRST)} is done")


def export(folder: Path, to: Path) -> None:
    """Write the newest model of the run in ``folder`` to ``to``. Raises ValueError when ``to`` exists."""
    if to.exists():
        raise ValueError(f"{to} exists: name a folder that does not")
    run = Run.reopen(folder)
    stage = newest_stage(run)
    model, tokenizer = run.model_after(stage), run.tokenizer()
    beside = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        save_hf(model, beside, dtype=torch.float32)  # as trained: others get our very numbers
        tokenizer.save(beside / "tokenizer.json")
        beside.rename(to)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    run.say(f"{to}: the model after stage {stage}")
