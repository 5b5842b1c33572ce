"""A model in another process: the weights and gradients lie in memory that both map, the rest goes through a pipe.

Between micro-batches the same process samples (K2 §3.3, colocated): ``ask`` runs any function of the model there.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing.connection import Connection
from typing import IO, Any, TypeVar

import torch
from torch import Tensor

from openk2.jobs.lifeline import end_when_closed
from openk2.model.transformer import Transformer
from openk2.optim.qk_clip import forget
from openk2.train.failure import Failure

# A micro-batch's loss, already divided by the whole step's normaliser, and numbers to add up over the step.
# It travels between processes: a module's function with its arguments bound, no lambda.
Loss = Callable[[Transformer], tuple[Tensor, Mapping[str, float]]]
Told = tuple[float, Mapping[str, float]]
R = TypeVar("R")
Question = Callable[[Transformer], R]

SECONDS_TO_END = 10.0
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Share:
    """What the micro-batches of one process said, and when it worked on them, by ``time.perf_counter``."""

    told: list[Told]
    start: float
    end: float


def run(model: Transformer, losses: Sequence[Loss]) -> Share:
    """Add the gradients of these micro-batches to the model's."""
    told, start = [], time.perf_counter()
    for loss_of in losses:
        loss, numbers = loss_of(model)
        loss.backward()
        told.append((float(loss.detach()), numbers))
    return Share(told, start, time.perf_counter())


@dataclass(frozen=True, slots=True)
class Counts:
    """What a model's layers count inside a step: loads of experts, largest logits of heads."""

    loads: list[Tensor]
    max_logits: list[Tensor]

    @classmethod
    def of(cls, model: Transformer) -> Counts:
        """As they stand, on the host."""
        loads = [router.load_E.cpu() for router in model.routers()]
        return cls(loads, [attention.max_logits_H.cpu() for attention in model.attentions()])

    def add_to(self, model: Transformer) -> None:
        """Count them in."""
        for router, load_E in zip(model.routers(), self.loads, strict=True):
            router.load_E += load_E.to(router.load_E.device)
        for attention, seen_H in zip(model.attentions(), self.max_logits, strict=True):
            seen_H = seen_H.to(attention.max_logits_H.device)
            torch.maximum(attention.max_logits_H, seen_H, out=attention.max_logits_H)


def run_afresh(model: Transformer, training: bool, losses: Sequence[Loss]) -> Share:
    """Leave the gradients of these micro-batches alone in the model, and in its layers their counts."""
    model.train(training).zero_grad(set_to_none=True)
    for router in model.routers():
        router.load_E.zero_()
    forget(model.attentions())
    return run(model, losses)


class Twin:
    """The other process, as its parent sees it: ``begin``, then ``finish``."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        with ExitStack() as stack:
            memory = stack.enter_context(_memory_file())
            self._shared = _Shared(model, memory.fileno(), create=True)
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            descriptors = (theirs.fileno(), memory.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from openk2.train.twin import serve; serve{descriptors}"],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._connection = Connection(os.dup(ours.fileno()))
        self._tell(model)

    def begin(self, losses: Sequence[Loss], threads: int) -> None:
        """Let it work on these with the weights as they are now."""
        self._shareweights_of()
        self._tell(_Work(self._model.training, threads, losses))

    def finish(self) -> Share:
        """Wait for it; add its gradients to the model's, and its layers' counters to theirs."""
        result = self._hear()
        assert isinstance(result, _Result)
        gradients = zip(self._model.parameters(), self._shared.gradients, result.has_grad, strict=True)
        for parameter, gradient, has_grad in gradients:
            if has_grad:
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
        result.counts.add_to(self._model)
        return result.share

    def ask(self, question: Question[Any], threads: int) -> None:
        """Let it answer with the weights as they are now; ``answer`` waits for that."""
        self._shareweights_of()
        self._tell(_Ask(threads, question))

    def answer(self) -> Any:
        """What it was asked for."""
        told = self._hear()
        assert isinstance(told, _Answer)
        return told.value

    def sleep(self) -> None:
        """Give back the memory of the gradients; the next micro-batch takes it again."""
        self._shared.drop_gradients()

    def close(self) -> None:
        """Let it end: it does once nobody can ask it any more."""
        self._connection.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self.close()

    def _shareweights_of(self) -> None:
        for place, tensor in zip(self._shared.weights, weights_of(self._model), strict=True):
            if place.dtype != tensor.dtype:
                raise ValueError(f"the weights became {tensor.dtype}; the processes beside this one have {place.dtype}")
            place.copy_(tensor.detach())

    def _tell(self, what: _Work | _Ask | Transformer) -> None:
        try:
            _send(self._connection, what)
        except ConnectionError as error:
            raise self._ended() from error

    def _hear(self) -> _Result | _Answer:
        # A micro-batch may take any time. A process that is gone has closed its end.
        try:
            answer = _receive(self._connection)
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if isinstance(answer, Failure):
            raise answer.raised("in the process that trains beside this one")
        assert isinstance(answer, _Result | _Answer)
        return answer

    def _ended(self) -> RuntimeError:
        code = self._process.wait(SECONDS_TO_END)
        return RuntimeError(f"the process that trains beside this one ended by itself, with exit code {code}")


@dataclass(frozen=True, slots=True)
class _Work:
    training: bool
    threads: int
    losses: Sequence[Loss]


@dataclass(frozen=True, slots=True)
class _Result:
    share: Share
    has_grad: list[bool]
    counts: Counts


@dataclass(frozen=True, slots=True)
class _Ask:
    threads: int
    question: Question[Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any


def serve(connection_fd: int, memory_fd: int) -> None:
    """The other process's life: take work until the parent is gone."""
    # Ctrl-C is for the parent, which lets the step under way end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(connection_fd)
    end_when_closed(connection_fd)
    try:
        model: Transformer = _receive(connection)
        shared = _Shared(model, memory_fd, create=False)
        for tensor, place in zip(weights_of(model), shared.weights, strict=True):
            tensor.data = place
        while True:
            work: _Work | _Ask = _receive(connection)
            try:
                answer: _Result | _Answer | Failure
                if isinstance(work, _Ask):
                    torch.set_num_threads(work.threads)
                    answer = _Answer(work.question(model))
                else:
                    answer = _gradients(model, shared, work)
                told = pickle.dumps(answer)
            except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
                told = pickle.dumps(Failure.of(error))
            connection.send_bytes(told)
    except (EOFError, ConnectionError):
        return


def _gradients(model: Transformer, shared: _Shared, work: _Work) -> _Result:
    torch.set_num_threads(work.threads)
    share = run_afresh(model, work.training, work.losses)
    gradients = [parameter.grad for parameter in model.parameters()]
    for place, gradient in zip(shared.gradients, gradients, strict=True):
        if gradient is not None:
            place.copy_(gradient)
    has_grad = [gradient is not None for gradient in gradients]
    model.zero_grad(set_to_none=True)  # the parent has them now, and rollouts may want the room
    return _Result(share, has_grad, Counts.of(model))


class _Shared:
    """A place for every weight and one for every gradient, the same in both processes."""

    def __init__(self, model: Transformer, memory_fd: int, *, create: bool) -> None:
        weights = weights_of(model)
        like = [*weights, *model.parameters()]
        ends = list(accumulate(-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in like))
        if create:
            os.ftruncate(memory_fd, ends[-1])
        self._memory = mmap.mmap(memory_fd, ends[-1])
        self._gradients_begin = ends[len(weights) - 1]
        block = torch.frombuffer(self._memory, dtype=torch.uint8)
        places = [
            block[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            for tensor, start in zip(like, [0, *ends[:-1]], strict=True)
        ]
        self.weights, self.gradients = places[: len(weights)], places[len(weights) :]

    def drop_gradients(self) -> None:
        """Hand the gradients' pages back to the system, where it takes them; they read as zeros from then on."""
        begin = -(-self._gradients_begin // mmap.PAGESIZE) * mmap.PAGESIZE
        if hasattr(mmap, "MADV_REMOVE") and begin < len(self._memory):
            self._memory.madvise(mmap.MADV_REMOVE, begin, len(self._memory) - begin)


def _send(connection: Connection, what: object) -> None:
    # By value: a pipe's own way would pass handles on each small tensor.
    connection.send_bytes(pickle.dumps(what))


def _receive(connection: Connection) -> Any:
    # The one pickle that is read: on a private pipe, from the process at its other end.
    return pickle.loads(connection.recv_bytes())  # noqa: S301


def _memory_file() -> IO[bytes]:
    """A nameless file: in memory where the system has such, else in the folder for temporary files."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("openk2"), "r+b")
    return tempfile.TemporaryFile()


def weights_of(model: Transformer) -> list[Tensor]:
    """What a checkpoint holds: parameters and router biases. Other buffers count inside a step."""
    return list(model.state_dict(keep_vars=True).values())
