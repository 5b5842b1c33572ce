"""Learning from given text: pre-training, SFT and its continued control are this loop on different batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from openk2.model.transformer import Transformer
from openk2.text.packing import Rows
from openk2.train.config import StageConfig
from openk2.train.step import Batch, Compute, language_model_losses
from openk2.train.trainer import Trainer


class RowSource(Protocol):
    """An endless, resumable stream of packed rows."""

    def __iter__(self) -> Iterator[Rows]:
        """Batches of rows, one an optimizer step."""
        ...

    def batch_ids(self) -> str:
        """What the last batch is made of, in words."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


def fit(
    name: str,
    folder: Path,
    model: Transformer,
    source: RowSource,
    config: StageConfig,
    compute: Compute,
    *,
    num_steps: int | None = None,
    on_metrics: Callable[[Mapping[str, float]], None] = lambda _: None,
    say: Callable[[str], None] = print,
) -> Trainer:
    """Train ``model`` on ``source`` for the stage's steps, resuming where an earlier call stopped."""
    trainer = Trainer(name, folder, model, config, source, num_steps=num_steps, on_metrics=on_metrics, say=say)
    with trainer:
        batches = iter(source)
        while not trainer.finished:
            batch = Batch.from_rows(next(batches), compute.device)
            losses = language_model_losses(batch, compute, micro_batch_rows=config.micro_batch_rows)
            trainer.update(losses, num_tokens=batch.tokens_BT.numel())
    return trainer
