"""Forward and backward over the micro-batches of a step; on CPU several processes take one each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

import torch

from openk2.model.transformer import Transformer
from openk2.train.twin import Loss, Told, Twin, run


class Replicas:
    """A model and, on CPU, its twins in other processes; use as a context manager, or ``close`` it.

    Threads that share every matrix product wait for each other thousands of times a step, and threads with a
    micro-batch each wait for Python's lock; processes meet once a step. Twins start when a step first has work for
    them: one thread, or one micro-batch, needs none.
    """

    def __init__(self, model: Transformer, threads: int | None = None) -> None:
        """``threads``: CPU threads of all processes together; by default torch's own number."""
        self.model = model
        on_cpu = next(model.parameters()).device.type == "cpu"
        self._threads = (threads or torch.get_num_threads()) if on_cpu else 1
        self._twins: list[Twin] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the twins."""
        with ExitStack() as stack:
            while self._twins:
                stack.callback(self._twins.pop().close)

    def accumulate(self, losses: Sequence[Loss]) -> tuple[float, dict[str, float]]:
        """Leave the summed gradient of ``losses`` in the model; return the summed loss and numbers.

        Micro-batch i goes to process i modulo their number, so every sum has a fixed order. Those left over after
        full rounds come one after the other, with all threads inside their operations.
        """
        self.model.zero_grad(set_to_none=True)
        num_processes = min(self._threads, len(losses))
        in_rounds = len(losses) - len(losses) % num_processes if num_processes > 1 else 0
        told = self._side_by_side(num_processes, losses[:in_rounds]) if in_rounds else []
        told += run(self.model, losses[in_rounds:])
        metrics: dict[str, float] = {}
        for _, numbers in told:
            for key, value in numbers.items():
                metrics[key] = metrics.get(key, 0.0) + value
        return sum(loss for loss, _ in told), metrics

    def _side_by_side(self, num_processes: int, losses: Sequence[Loss]) -> list[Told]:
        try:
            return self._shared_out(num_processes, losses)
        except BaseException:
            # An answer nobody waits for any more would be taken for the next step's.
            while self._twins:
                self._twins.pop().kill()
            raise

    def _shared_out(self, num_processes: int, losses: Sequence[Loss]) -> list[Told]:
        while len(self._twins) < num_processes - 1:
            self._twins.append(Twin(self.model))
        twins, before = self._twins[: num_processes - 1], torch.get_num_threads()
        threads = self._threads // num_processes
        for number, twin in enumerate(twins, start=1):
            twin.begin(losses[number::num_processes], threads)
        torch.set_num_threads(threads)
        try:
            told = run(self.model, losses[::num_processes])
        finally:
            torch.set_num_threads(before)
        for twin in twins:
            told += twin.finish()
        return told
