"""Players on other processes and machines: Ray actors, each with its own model and engine, renewed by the checkpoint engine (K2 §3.3).

An actor that dies loses the turns under way. Its groups begin again from what they last told, or wrote to a disk that both see: in a
new actor, or where none comes up, in those that are left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.published import model_parts
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.rounds import FAILURES, UpdateError
from openk2.engine.weights.trainer import Trainer as Publisher
from openk2.jobs import jsonl
from openk2.model.transformer import Transformer
from openk2.schema import Trace
from openk2.train.ranks import Likeness
from openk2.train.rl.rollout import Group, Order, Played, Player, Playing, arrivals
from openk2.train.timeline import Span

READY_S = 120.0  # for an actor to come up; Ray itself takes seconds
TRIES = 3  # of an update, and of what dies while it plays


@dataclass(frozen=True, slots=True)
class ActorsConfig:
    """How many play over the cluster, what each reserves there, how weights travel, and how long an actor may be silent."""

    num: int
    cpus: float = 1.0
    gpus: float = 0.0
    weights: WeightsConfig = field(default_factory=lambda: WeightsConfig(via="gloo"))
    limit_s: float = 3600.0


class LostPlayersError(ConnectionError):
    """No actor is left to play, or what it plays ends it again and again."""


class RayPlayers:
    """Actors over a Ray cluster, which must be up (``ray.init``); ``model`` is the trainer's, whose weights they get. ``close`` them."""

    def __init__(self, model: Transformer, playing: Playing, config: ActorsConfig) -> None:
        """Start the actors, spread over the nodes. Raises ValueError without a cluster, LostPlayersError where none comes up."""
        self._ray = _ray()
        self._playing, self._config = playing, config
        self._likeness = replace(Likeness.of(model), device="cuda" if config.gpus else "cpu")
        nodes = len(self._ray.nodes())
        here = "127.0.0.1" if nodes == 1 else self._ray.util.get_node_ip_address()
        self._meeting = Meeting.host(f"{here}:0")
        self._publisher = Publisher(model_parts(model), self._meeting, config.weights)
        self._slots = [_Slot(number) for number in range(config.num)]
        self._deaths = 0  # since a group was last finished
        self.update_seconds = 0.0
        """What bringing the last version to all actors took."""
        try:
            self._start()
        except LostPlayersError:
            self.close()
            raise

    @property
    def num(self) -> int:
        """How many were asked for."""
        return self._config.num

    def play(self, orders: Sequence[Order]) -> list[Played]:
        """Have each carry out its order, with the trainer's weights as they are now. Raises LostPlayersError."""
        self._start()
        began = time.perf_counter()
        self._renew(orders[0].weight_version)
        ended = time.perf_counter()
        self.update_seconds = ended - began
        played = self._play({order.process: order for order in self._among_living(orders)})
        played[0].spans.append(Span(0, "switch", began, ended))
        return played

    def close(self) -> None:
        """End the actors, and with them what stands still."""
        for slot in self._slots:
            if slot.actor is not None:
                self._ray.kill(slot.actor)
                slot.actor = None
        self._publisher.close()

    # -- playing ------------------------------------------------------------------------------

    def _among_living(self, orders: Sequence[Order]) -> list[Order]:
        """Each living actor's order: its own with what it lost, and its share of those whose actor is gone for good."""
        living = [slot for slot in self._slots if slot.actor is not None]
        merged = {slot.number: orders[slot.number] for slot in living}
        gone = [slot for slot in self._slots if slot.actor is None]
        for turn, slot in enumerate(gone):
            heir, order = living[turn % len(living)], orders[slot.number]
            whole = merged[heir.number]
            merged[heir.number] = replace(whole, groups=[*whole.groups, *order.groups], quota=whole.quota + order.quota)
            heir.lost |= slot.lost
            slot.lost = {}
        for slot in living:
            whole = merged[slot.number]
            merged[slot.number] = replace(whole, groups=[*slot.lost.values(), *whole.groups])
        return list(merged.values())

    def _play(self, orders: dict[int, Order]) -> list[Played]:
        going = {}
        for number, order in orders.items():
            slot = self._slots[number]
            slot.lost = {}
            slot.told |= {group.number: group for group in order.groups}
            going[slot.actor.play.remote(order)] = slot
        played, deadline = [], time.monotonic() + self._config.limit_s
        while going:
            done, _ = self._ray.wait(list(going), timeout=max(0.0, deadline - time.monotonic()))
            for future in done or list(going):
                slot = going.pop(future)
                played.append(self._outcome(slot, future, orders[slot.number], came=bool(done)))
        if any(each.finished for each in played):
            self._deaths = 0
        return played

    def _outcome(self, slot: _Slot, future: Any, order: Order, *, came: bool) -> Played:
        """What it played; where it died, its groups as they can begin again."""
        if came:
            try:
                played, their_clock = self._ray.get(future)
            except self._ray.exceptions.RayActorError as error:
                why = _one_line(error)
            except self._ray.exceptions.RayTaskError as error:
                raise RuntimeError(f"in rollout actor {slot.number}:\n{error}") from error
            else:
                ahead = time.perf_counter() - their_clock
                played.spans = [
                    Span(slot.number + 1, span.what, span.start + ahead, span.end + ahead) for span in played.spans
                ]
                slot.told = {group.number: group for group in played.unfinished}
                return played
        else:
            why = f"no answer within {self._config.limit_s:g} s"
        for group in slot.told.values():
            self._add_what_arrived(group, order)
        self._bury(slot, why)
        started_again = sum(self._playing.rollouts_per_prompt - len(group.finished) for group in slot.lost.values())
        counts = Counter({"lost_players": 1, "started_again": started_again})
        return Played([], list(slot.lost.values()), [], 0, counts)

    def _add_what_arrived(self, group: Group, order: Order) -> None:
        """What finished since the group was last told."""
        path = self._playing.folder / arrivals(order.weight_version + 1, order.process)
        for row in jsonl.read(path) if path.exists() else ():
            if row["group"] == group.number:
                group.finished[row["rollout"]] = Trace.from_json(row["trace"])
                group.paused.pop(row["rollout"], None)

    # -- actors that come and go --------------------------------------------------------------

    def _start(self) -> None:
        """Have an actor in every slot that can have one."""
        starting = {}
        actor_class = self._ray.remote(_Actor).options(
            num_cpus=self._config.cpus, num_gpus=self._config.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        for slot in self._slots:
            if slot.actor is None and not slot.closed:
                slot.version = None
                slot.actor = actor_class.remote(
                    slot.number, self._likeness, self._meeting.address, self._playing, self._config.cpus
                )
                starting[slot.actor.ready.remote()] = slot
        up, late = self._ray.wait(list(starting), num_returns=len(starting), timeout=READY_S) if starting else ([], [])
        why = f"not up within {READY_S:g} s: has the cluster {self._config.cpus:g} free CPUs for each?"
        for future in up:
            try:
                self._ray.get(future)
            except self._ray.exceptions.RayError as error:
                why = _one_line(error)
                late.append(future)
        for future in late:
            self._ray.kill(starting[future].actor)
            starting[future].actor, starting[future].closed = None, True
        if all(slot.actor is None for slot in self._slots):
            raise LostPlayersError(f"none of {self.num} rollout actors is left ({why})")

    def _renew(self, version: int) -> None:
        """Bring every actor to ``version``; one that does not come along is given up."""
        why = ""
        for _ in range(TRIES):
            behind = [slot for slot in self._slots if slot.actor is not None and slot.version != version]
            if not behind:
                return
            limit = 4 * self._config.weights.time_limit  # within which a failed update ends
            asked = {slot.actor.update.remote(limit): slot for slot in behind}
            published = True
            try:
                self._publisher.publish(version)
            except UpdateError as error:
                published, why = False, _one_line(error)
            answered, silent = self._ray.wait(list(asked), num_returns=len(asked), timeout=limit)
            for future in answered:
                try:
                    asked[future].version = self._ray.get(future)
                except self._ray.exceptions.RayError as error:
                    self._bury(asked[future], _one_line(error))
                    continue
                if asked[future].version is None and published:
                    self._bury(asked[future], "the others have the version that it could not take")
            for future in silent:
                self._bury(asked[future], f"no answer to an update within {limit:g} s")
            self._start()
        raise LostPlayersError(f"version {version} of the weights did not reach the rollout actors ({why})")

    def _bury(self, slot: _Slot, why: str) -> None:
        """Note that an actor is gone, with what stood still in it. Raises LostPlayersError when none ever gets anywhere."""
        self._ray.kill(slot.actor)
        slot.actor = None
        slot.lost, slot.told = slot.lost | slot.told, {}
        self._deaths += 1
        if self._deaths >= TRIES * self.num:
            raise LostPlayersError(f"rollout actors died {self._deaths} times without finishing a group ({why})")


@dataclass(slots=True)
class _Slot:
    """The place of an actor: the groups in it as they last told of themselves, and those that one before it lost."""

    number: int
    actor: Any = None
    closed: bool = False
    version: int | None = None
    told: dict[int, Group] = field(default_factory=dict)
    lost: dict[int, Group] = field(default_factory=dict)


class _Actor:
    """The other process: a model like the trainer's, a replica of its weights, a player."""

    def __init__(self, number: int, likeness: Likeness, address: str, playing: Playing, cpus: float) -> None:
        torch.set_num_threads(max(1, int(cpus)))
        self._name, self._meeting = f"player {number}", Meeting.join(address)
        self._model = likeness.make().eval()
        self._replica = self._join()
        self._player = Player(self._model, playing)

    def ready(self) -> None:
        """Answer when it is there."""

    def update(self, wait: float) -> int | None:
        """Take part in an update: the version then held; None where it failed, which the trainer knows more of."""
        try:
            return self._replica.update(wait)
        except FAILURES:
            self._replica.close()
            self._replica = self._join()  # it may have been too late for the trainer, which then left it out
            return None

    def play(self, order: Order) -> tuple[Played, float]:
        """Carry out an order; what time it was here when it was done."""
        return self._player.play(order), time.perf_counter()

    def _join(self) -> Replica:
        return Replica(self._name, model_parts(self._model), self._meeting)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError("rollouts on Ray actors need ray: pip install 'openk2[ray]'") from error
    if not ray.is_initialized():
        raise ValueError("no Ray cluster is connected: call ray.init first")
    return ray


def _one_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
