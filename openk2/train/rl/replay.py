"""A step's dumped traces through the loss once more: what they taught, or would teach other weights."""

from __future__ import annotations

from pathlib import Path

from openk2.model.transformer import Transformer
from openk2.text.chat import ChatFormat
from openk2.train.config import RLConfig
from openk2.train.replicas import Replicas
from openk2.train.rl.ledger import read_batch
from openk2.train.rl.reinforce import taught
from openk2.train.step import Compute


def replay(
    path: Path, model: Transformer, chat: ChatFormat, config: RLConfig, compute: Compute, replicas: Replicas
) -> dict[str, float]:
    """The policy loss of a dumped step, ``rollouts/step-N.jsonl``, under ``model``; the gradient is left in the model.

    With the weights of the checkpoint before that step it is the loss the step had, to the bit. ``replicas`` are the model's.
    Raises ValueError for a file of another name, and where there is none.
    """
    number = path.stem.removeprefix("step-")
    if not number.isdigit() or not path.is_file():
        raise ValueError(f"{path}: there is no such file step-NNNNNN.jsonl of a stage's rollouts")
    _, losses = taught(read_batch(path), model, chat, config, compute, weight_version=int(number) - 1)
    model.train()
    return replicas.accumulate(losses)[1]
