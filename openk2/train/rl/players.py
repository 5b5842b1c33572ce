"""Who plays an iteration's groups: what the controller asks of them, and the trainer's own processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from openk2.model.transformer import Transformer
from openk2.train.rl.rollout import Order, Played, Playing, play, stop_playing
from openk2.train.trainer import Trainer


class Players(Protocol):
    """Some that play side by side. Each keeps what it has not finished, and goes on with it in the next iteration."""

    @property
    def num(self) -> int:
        """How many there are; they are numbered from 0."""
        ...

    def play(self, orders: Sequence[Order]) -> list[Played]:
        """Have each carry out its order, with the trainer's weights as they are now."""
        ...

    def close(self) -> None:
        """Let go of what stands still."""
        ...


MakePlayers = Callable[[Transformer, Playing], Players]


class TrainersProcesses:
    """The processes that train also play, in turn (K2 §3.3, colocated)."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    @property
    def num(self) -> int:
        """As many as train."""
        return self._trainer.replicas.num_processes

    def play(self, orders: Sequence[Order]) -> list[Played]:
        """Sample from the very weights; meanwhile the trainer sleeps."""
        self._trainer.sleep()
        return self._trainer.replicas.share_out(play, orders)

    def close(self) -> None:
        """Let go of what stands still in the processes."""
        replicas = self._trainer.replicas
        replicas.share_out(stop_playing, [None] * replicas.num_begun)
