"""The side of inference: staged beside the old weights, swapped in when all agree."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.copies import Tensors
from openk2.engine.weights.fleet import join, leave
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import Part
from openk2.engine.weights.rounds import FAILURES, Call, Mailbox, await_decision, one_line, vote
from openk2.engine.weights.targets import check_own_memory
from openk2.engine.weights.timeline import Timeline
from openk2.engine.weights.transport import make_transport, read_plan

# Between looks whether another version became current while nobody called us.
LOOK_SECONDS = 0.5


class Replica:
    """One inference rank's end of weight updates.

    Its tensors have a twin each, so it takes twice their memory. A commit swaps tensor and twin (``tensor.data``)
    while ``lock`` is held: hold it over a forward pass, and a pass sees one version. Views taken before a swap keep
    showing the old version.
    """

    def __init__(self, name: str, targets: Sequence[Part], meeting: Meeting, *, connect_seconds: float = 60.0) -> None:
        """Join the fleet; with shared memory, read the current version if there is one.

        Args:
            name: the same after a restart; one that joins again replaces the one before.
            targets: what to fill with which part of the full parameters. The trainers' names and shapes count; a
                tensor's dtype is its own.
            meeting: ``Meeting.join(address)``.
            connect_seconds: how long to wait for the trainers' plan.

        Raises:
            ValueError: targets that the trainers' parameters do not fill, or that share memory with other tensors.
            TimeoutError: no trainer came.
        """
        self.lock = threading.Lock()
        self.timeline = Timeline()
        self._taken: Call | None = None
        self._meeting = meeting
        self._plan = read_plan(meeting, connect_seconds)
        self._plan.check(targets)
        check_own_memory(targets)
        told = meeting.read("config", connect_seconds, "trainer 0 did not come")
        self.config = WeightsConfig.model_validate_json(told)
        self._live = list({id(part.tensor): part.tensor for part in targets}.values())
        self._staged = [tensor.detach().clone() for tensor in self._live]
        twins = {id(tensor): twin for tensor, twin in zip(self._live, self._staged, strict=True)}
        self._targets = Tensors([part.into(twins[id(part.tensor)]) for part in targets])
        self._transport = make_transport(meeting, self.config)
        # Joined before it reads: a version that is committed meanwhile calls it, or is current when it looks.
        self._mailbox = Mailbox(meeting, join(meeting, name))
        try:
            self._catch_up()
        except FAILURES:
            self.close()
            raise

    @property
    def member(self) -> str:
        """This life's name in an update."""
        return self._mailbox.member

    @property
    def version(self) -> int | None:
        """What the tensors hold; None before the first update."""
        return None if self._taken is None else self._taken.version

    def update(self, wait: float) -> int:
        """Take part in the next update, or catch up with one that went by; returns the version then served.

        Blocks its thread and leaves the served tensors alone until the commit.

        Raises:
            TimeoutError: no update within ``wait`` seconds.
            UpdateError: it failed, here or elsewhere; all stay at their version.
            ConnectionError: the trainer's meeting place is gone. The old version is served on.
        """
        deadline = time.monotonic() + wait
        while True:
            left = deadline - time.monotonic()
            try:
                call = self._mailbox.receive(max(0.001, min(LOOK_SECONDS, left)))
            except TimeoutError:
                if self._catch_up() and self.version is not None:
                    return self.version
                if left <= 0:
                    raise TimeoutError(f"{self.member} was called to no update within {wait:g} s") from None
                continue
            self._carry_out(call)
            if call.rehearsed is None:
                return call.version

    def close(self) -> None:
        """Leave the fleet; tensors keep their version."""
        self._transport.leave()
        # Without a meeting place there is nobody to tell.
        with suppress(ConnectionError):
            leave(self._meeting, self.member)

    def _carry_out(self, call: Call) -> None:
        self.timeline = Timeline()
        error = None
        try:
            self._transport.move(self._plan, call, self.member, Tensors(()), self._targets, self.timeline)
        except FAILURES as failure:
            error = one_line(failure)
        vote(self._meeting, call, self.member, error)
        await_decision(self._meeting, call, 3 * self.config.time_limit)
        if call.rehearsed is None:
            self._commit(call)

    def _catch_up(self) -> bool:
        call = self._transport.catch_up(self._plan, self._targets, self._taken)
        if call is not None:
            self._commit(call)
        return call is not None

    def _commit(self, call: Call) -> None:
        with self.lock:
            for live, staged in zip(self._live, self._staged, strict=True):
                live.data, staged.data = staged.data, live.data
            self._taken = call
