"""A model in as many processes as there are cores, or ranks: they share out the micro-batches of a step, and the rollouts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self, TypeVar, cast

import torch

from openk2.model.transformer import Transformer
from openk2.train.ranks import led
from openk2.train.timeline import Span
from openk2.train.twin import Loss, Question, Share, Twin, run

S = TypeVar("S")
R = TypeVar("R")


class Replicas:
    """A model and, on CPU, its twins in other processes; use as a context manager, or ``close`` it.

    In a job of several ranks that this process leads, the copies on the other ranks take the place of twins, on any device.
    Threads that share every matrix product wait for each other thousands of times a step, and threads with a
    micro-batch each wait for Python's lock; processes meet once a step. Twins start when a step first has work for
    them: one thread, or one micro-batch, needs none.
    """

    def __init__(self, model: Transformer, threads: int | None = None) -> None:
        """``threads``: CPU threads of all processes on this machine together; by default torch's own number, or all ranks."""
        self.model = model
        self._ranks = led() if threads is None else None
        on_cpu = next(model.parameters()).device.type == "cpu"
        self._threads = (threads or torch.get_num_threads()) if on_cpu else 1
        self._twins: list[Twin] = []
        self.spans: list[Span] = []
        """When each process worked on its micro-batches of the last step; the first one's own come first."""

    @property
    def num_processes(self) -> int:
        """How many can work side by side."""
        return max(1, self._threads) if self._ranks is None else self._ranks.size

    @property
    def num_begun(self) -> int:
        """How many have had work so far, or could have it without being started."""
        return 1 + len(self._twins) if self._ranks is None else self._ranks.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the twins, or let the ranks forget the model."""
        if self._ranks is not None:
            self._ranks.take_back()
        with ExitStack() as stack:
            while self._twins:
                stack.callback(self._twins.pop().close)

    def accumulate(self, losses: Sequence[Loss]) -> tuple[float, dict[str, float]]:
        """Leave the summed gradient of ``losses`` in the model; return the summed loss and numbers.

        Micro-batch i goes to process i modulo their number, so every sum has a fixed order.
        """
        self.model.zero_grad(set_to_none=True)
        if self._ranks is None:
            shares = self._in_rounds(losses)
        else:
            shares = list(enumerate(self._ranks.accumulate(self.model, losses)))
        self.spans = [Span(worker, "train", share.start, share.end) for worker, share in shares]
        told = [each for _, share in shares for each in share.told]
        metrics: dict[str, float] = {}
        for _, numbers in told:
            for key, value in numbers.items():
                metrics[key] = metrics.get(key, 0.0) + value
        return sum(loss for loss, _ in told), metrics

    def share_out(self, work: Callable[[Transformer, Sequence[S]], Sequence[R]], items: Sequence[S]) -> list[R]:
        """``work`` on every item, each process taking its share; results in the order of the items.

        ``work`` travels between processes: a module's function with its arguments bound, no lambda. It gets the model
        with the weights as they are now, and returns a result an item.
        """
        num_processes = max(1, min(self.num_processes, len(items)))
        shares = [items[number::num_processes] for number in range(num_processes)]
        questions = [functools.partial(_on_share, work, share) for share in shares]
        parts = self._ask(questions) if self._ranks is None else self._ranks.ask(self.model, questions)
        results: list[R | None] = [None] * len(items)
        for number, (share, part) in enumerate(zip(shares, parts, strict=True)):
            if len(part) != len(share):
                raise ValueError(f"work on {len(share)} items returned {len(part)} results")
            results[number::num_processes] = part
        return cast(list[R], results)

    def sleep(self) -> None:
        """Give back the memory that gradients take, while others use it. The next step takes it again."""
        self.model.zero_grad(set_to_none=True)
        for twin in self._twins:
            twin.sleep()

    def _ask(self, questions: Sequence[Question[Sequence[R]]]) -> list[Sequence[R]]:
        first, *others = questions
        with self._together(len(questions)) as (twins, threads):
            for twin, question in zip(twins, others, strict=True):
                twin.ask(question, threads)
            return [first(self.model)] + [twin.answer() for twin in twins]

    def _in_rounds(self, losses: Sequence[Loss]) -> list[tuple[int, Share]]:
        """Shares by process. A micro-batch for each process, again and again; what is left over comes here, all threads inside its operations."""
        num_processes = min(self._threads, len(losses))
        in_rounds = len(losses) - len(losses) % num_processes if num_processes > 1 else 0
        shares = self._side_by_side(num_processes, losses[:in_rounds]) if in_rounds else []
        rest = [(0, run(self.model, losses[in_rounds:]))] if in_rounds < len(losses) else []
        return [*enumerate(shares), *rest]

    def _side_by_side(self, num_processes: int, losses: Sequence[Loss]) -> list[Share]:
        with self._together(num_processes) as (twins, threads):
            for number, twin in enumerate(twins, start=1):
                twin.begin(losses[number::num_processes], threads)
            own = run(self.model, losses[::num_processes])
            return [own, *(twin.finish() for twin in twins)]

    @contextmanager
    def _together(self, num_processes: int) -> Iterator[tuple[list[Twin], int]]:
        """The twins of so many processes and the threads of each, this one among them."""
        before, threads = torch.get_num_threads(), max(1, self._threads // num_processes)
        try:
            while len(self._twins) < num_processes - 1:
                self._twins.append(Twin(self.model))
            torch.set_num_threads(threads)
            yield self._twins[: num_processes - 1], threads
        except BaseException:
            # An answer nobody waits for any more would be taken for the next one.
            while self._twins:
                self._twins.pop().kill()
            raise
        finally:
            torch.set_num_threads(before)


def _on_share(
    work: Callable[[Transformer, Sequence[S]], Sequence[R]], items: Sequence[S], model: Transformer
) -> Sequence[R]:
    return work(model, items)
