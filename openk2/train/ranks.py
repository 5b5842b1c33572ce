"""A model on the ranks of a ``torchrun`` job: rank 0 runs the stage as ever, the others take their share of its work.

Rank 0 tells each rank what to do and hears how it went; weights are broadcast, gradients added up, by the collectives of the
device. torch's default process group stays closed: a stage at rank 0 must not take the others for ranks of its own kind.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from openk2.engine.weights.meeting import Meeting
from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.train.failure import Failure
from openk2.train.twin import Counts, Loss, Question, Share, run, run_afresh, weights_of

T = TypeVar("T")

START_S = 120.0  # for all ranks to come
LIMIT_S = 3600.0  # of a rank's silence: longer than the longest rollouts of a step
IDLE_S = 24 * 3600.0  # of rank 0's: it has work of its own, as data and evaluation. Its death is seen at once
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_MEETING = "openk2 meets at"


class LostRankError(ConnectionError):
    """Another rank is gone, or gives no sign."""


def launched() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return all(name in os.environ for name in ENVIRONMENT) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def job(limit_s: float = LIMIT_S) -> Iterator[bool]:
    """The job that ``torchrun`` started: True at rank 0, to be led; at the others False, after they have served.

    While it lasts, ``Replicas`` at rank 0 share their work among its ranks. ``limit_s`` is how long one may work on its share.
    Raises LostRankError.
    """
    global _LED
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    see_one_device(int(os.environ.get("LOCAL_RANK", rank)))
    channel = _Channel(_meet(rank, size), rank, size, IDLE_S if rank else limit_s)
    try:
        if rank > 0:
            # Ctrl-C is for rank 0, which lets the step under way end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _serve(channel)
            yield False
        else:
            _LED = Ranks(channel)
            try:
                yield True
            finally:
                _LED.end()
    finally:
        _LED = None
        channel.close()


def led() -> Ranks | None:
    """The ranks that this process leads."""
    return _LED


_LED: Ranks | None = None


class Ranks:
    """The other ranks, as rank 0 sees them. What fails there is raised here; after LostRankError the job is over."""

    def __init__(self, channel: _Channel) -> None:
        self.size = channel.size
        self._channel = channel
        self._others = range(1, channel.size)
        self._owing: set[int] = set()  # ranks that have yet to answer
        self._model: Transformer | None = None
        self._likeness: Likeness | None = None  # of what the ranks have

    def accumulate(self, model: Transformer, losses: Sequence[Loss]) -> list[Share]:
        """Add the gradients of these micro-batches to the model's. Rank r takes every micro-batch r modulo their number."""
        self._give(model)
        parts = [losses[rank :: self.size] for rank in range(self.size)]
        self._order([_Work(model.training, torch.get_num_threads(), part) for part in parts], weights=True)
        own = run(model, parts[0])
        results = self._hear_all()
        for result in results:
            result.counts.add_to(model)
        parameters = list(model.parameters())
        has_grad = [
            parameter.grad is not None or any(result.has_grad[number] for result in results)
            for number, parameter in enumerate(parameters)
        ]
        self._order([_Add(has_grad)] * self.size)
        self._channel.add_up(_gradients(parameters, has_grad))
        self._hear_all()
        return [own, *(result.share for result in results)]

    def ask(self, model: Transformer, questions: Sequence[Question[T]]) -> list[T]:
        """Rank r answers question r, with the weights as they are now; ranks beyond them rest."""
        self._give(model)
        first, *others = questions
        rest = [None] * (self.size - len(questions))
        self._order([_Ask(torch.get_num_threads(), question) for question in [None, *others, *rest]], weights=True)
        return [first(model), *self._hear_all()[: len(others)]]

    def take_back(self) -> None:
        """Let the ranks forget the model: at once, or where some still work, when they are given another."""
        if self._model is not None and not self._owing:
            self._order([_Model(None)] * self.size)
            self._hear_all()
        self._model = None

    def end(self) -> None:
        """Let them end. Those that still work, because something failed, see that nobody is there any more."""
        if not self._owing:
            self._order([_End()] * self.size)

    def _give(self, model: Transformer) -> None:
        likeness = Likeness.of(model)
        if self._model is not model or self._likeness != likeness:
            self._order([_Model(likeness)] * self.size)
            self._channel.open(likeness.device)
            self._hear_all()
            self._model, self._likeness = model, likeness

    def _order(self, orders: Sequence[_Order], *, weights: bool = False) -> None:
        while self._owing:  # what was answered to a step that failed here is not the answer to this one
            self._hear(next(iter(self._owing)))
        for rank in self._others:
            self._owing.add(rank)
            self._channel.tell(rank, orders[rank])
        if weights:
            assert self._model is not None
            self._channel.broadcast([tensor.detach() for tensor in weights_of(self._model)])

    def _hear_all(self) -> list[Any]:
        """What each says, in order. Raises the first failure when all have been heard."""
        heard = [self._hear(rank) for rank in self._others]
        for rank, answer in enumerate(heard, start=1):
            if isinstance(answer, Failure):
                raise answer.raised(f"at rank {rank}")
        return heard

    def _hear(self, rank: int) -> Any:
        answer = self._channel.hear(rank)
        self._owing.discard(rank)
        return answer


def _serve(channel: _Channel) -> None:
    """The life of a rank above 0: do what rank 0 says until it says no more."""
    model: Transformer | None = None
    while not isinstance(order := cast(_Order, channel.hear(0)), _End):
        try:
            match order:
                case _Model(likeness):
                    model = None
                    if likeness is not None:
                        channel.open(likeness.device)
                        model = likeness.make()
                    answer: object = None
                case _Add(has_grad):
                    assert model is not None
                    channel.add_up(_gradients(list(model.parameters()), has_grad))
                    model.zero_grad(set_to_none=True)  # rank 0 has them now, and rollouts may want the room
                    answer = None
                case _Work() | _Ask():
                    assert model is not None
                    torch.set_num_threads(order.threads)
                    channel.broadcast([tensor.detach() for tensor in weights_of(model)])
                    answer = order.carry_out(model)
        except LostRankError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, rank 0 raises it
            answer = Failure.of(error)
        channel.tell(0, answer)


@dataclass(frozen=True, slots=True)
class Likeness:
    """What makes an empty model like another one, in another process."""

    config: ModelConfig
    dtypes: list[torch.dtype]
    device: str

    @classmethod
    def of(cls, model: Transformer) -> Likeness:
        """What makes one like this."""
        weights = weights_of(model)
        return cls(model.config, [tensor.dtype for tensor in weights], weights[0].device.type)

    def make(self) -> Transformer:
        """A model whose weights are yet to come."""
        model = Transformer(self.config).to(self.device)
        for tensor, dtype in zip(weights_of(model), self.dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)
        return model


@dataclass(frozen=True, slots=True)
class _Model:
    likeness: Likeness | None


@dataclass(frozen=True, slots=True)
class _Work:
    training: bool
    threads: int
    losses: Sequence[Loss]

    def carry_out(self, model: Transformer) -> _Result:
        share = run_afresh(model, self.training, self.losses)
        return _Result(share, [parameter.grad is not None for parameter in model.parameters()], Counts.of(model))


@dataclass(frozen=True, slots=True)
class _Ask:
    threads: int
    question: Question[Any] | None

    def carry_out(self, model: Transformer) -> object:
        return None if self.question is None else self.question(model)


@dataclass(frozen=True, slots=True)
class _Add:
    """Gradients of these parameters, ranks of the same number without one among them, are added up at rank 0."""

    has_grad: list[bool]


@dataclass(frozen=True, slots=True)
class _End:
    pass


_Order = _Model | _Work | _Ask | _Add | _End


@dataclass(frozen=True, slots=True)
class _Result:
    share: Share
    has_grad: list[bool]
    counts: Counts


def _gradients(parameters: Sequence[Tensor], has_grad: Sequence[bool]) -> list[Tensor]:
    """The gradients, in place, of those that have one on some rank; zero where it is another's."""
    found = []
    for parameter, wanted in zip(parameters, has_grad, strict=True):
        if wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found


class _Channel:
    """One rank's end of what ranks say and send. Every wait ends after ``limit_s`` seconds, with LostRankError."""

    def __init__(self, meeting: Meeting, rank: int, size: int, limit_s: float) -> None:
        self.rank, self.size = rank, size
        self._meeting, self._limit_s = meeting, limit_s
        self._words = self._group("words", "gloo")
        self._tensors: dict[str, dist.ProcessGroup] = {"cpu": self._words}
        self._device = "cpu"

    def open(self, device: str) -> None:
        """Have collectives for tensors of such a device. All ranks do it together."""
        if device not in self._tensors:
            self._tensors[device] = self._group(device, "nccl" if device == "cuda" else "gloo")
        self._device = device

    def tell(self, rank: int, what: object) -> None:
        """Send by value. It arrives when the other one listens."""
        said = torch.frombuffer(bytearray(pickle.dumps(what)), dtype=torch.uint8)
        with self._patience(f"told {_name(rank)} what to do" if rank else "told rank 0 how it went", rank):
            self._words.send([torch.tensor([len(said)])], rank, 0).wait()
            self._words.send([said], rank, 0).wait()

    def hear(self, rank: int) -> Any:
        """What a rank says next."""
        length = torch.zeros(1, dtype=torch.int64)
        with self._patience(f"waited for {_name(rank)}", rank):
            self._words.recv([length], rank, 0).wait()
            said = torch.empty(int(length), dtype=torch.uint8)
            self._words.recv([said], rank, 0).wait()
        # The one pickle that is read: from a rank of the same job.
        return pickle.loads(said.numpy().tobytes())  # noqa: S301

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Rank 0's values for all."""
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        self._together(lambda group, tensor: group.broadcast([tensor], options), tensors, "the weights were sent")

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """The sums over the ranks, in an order that their number fixes, at rank 0; elsewhere nothing is left of use."""
        options = dist.ReduceOptions()
        options.rootRank, options.rootTensor, options.reduceOp = 0, 0, cast(Any, dist.ReduceOp.SUM)
        self._together(lambda group, tensor: group.reduce([tensor], options), tensors, "gradients were added up")

    def close(self) -> None:
        """Let go; whoever waits for this rank sees it at once."""
        for group in {id(group): group for group in self._tensors.values()}.values():
            group.abort()

    def _together(
        self, collective: Callable[[dist.ProcessGroup, Tensor], dist.Work], tensors: Sequence[Tensor], when: str
    ) -> None:
        group = self._tensors[self._device]
        with self._patience(when):
            for work in [collective(group, tensor) for tensor in tensors]:
                work.wait()

    @contextmanager
    def _patience(self, when: str, rank: int | None = None) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # all that gloo and NCCL raise
            who = "a rank" if rank is None else _name(rank)
            here = "" if rank is None else f"{_name(self.rank)} "
            raise LostRankError(
                f"{who} is gone, or was silent for {self._limit_s:g} s, while {here}{when} "
                f"({str(error).partition(chr(10))[0]})"
            ) from error

    def _group(self, name: str, backend: str) -> dist.ProcessGroup:
        try:
            return self._meeting.group(name, self.rank, self.size, backend, self._limit_s)
        except (RuntimeError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise LostRankError(
                f"rank {self.rank} could not connect with the other {self.size - 1} ({reason})"
            ) from error


def _name(rank: int) -> str:
    return f"rank {rank}"


def _meet(rank: int, size: int) -> Meeting:
    """Where all ranks are, once all have come."""
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=START_S)))
        if rank == 0:
            meeting = Meeting.host(f"{os.environ['MASTER_ADDR']}:0")
            store.set(_MEETING, meeting.address)
        else:
            meeting = Meeting.join(store.get(_MEETING).decode(), START_S)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise LostRankError(f"not all of {size} ranks came within {START_S:g} s ({reason})") from error
    meeting.post(f"here/{rank}", "")
    for other in range(size):
        meeting.read(f"here/{other}", START_S, f"rank {other} did not come")
    return meeting


def see_one_device(number: int) -> None:
    """Let the process see one GPU alone, so that ``cuda`` means its own on every rank, in what ranks tell each other too.

    Raises ValueError where ``CUDA_VISIBLE_DEVICES`` names fewer.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
    elif visible:
        devices = visible.split(",")
        if number >= len(devices):
            raise ValueError(f"CUDA_VISIBLE_DEVICES={visible} has no device for local rank {number}: start fewer ranks")
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number]
