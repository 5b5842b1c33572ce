"""The trainer's side: parts registered once, versions published."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from openk2.engine.weights.config import FORMS, Form, WeightsConfig
from openk2.engine.weights.copies import Tensors
from openk2.engine.weights.fleet import Fleet
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import Part
from openk2.engine.weights.plan import held_from_json, held_to_json, make_plan
from openk2.engine.weights.rounds import (
    FAILURES,
    Call,
    Mailbox,
    UpdateRefusedError,
    await_decision,
    check_version,
    decide,
    one_line,
    vote,
)
from openk2.engine.weights.timeline import Timeline
from openk2.engine.weights.transport import make_transport, read_plan, refuse

CHOICE_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """Which form was faster on a sample, and what both took (median seconds)."""

    form: Form
    seconds: dict[Form, float]
    sample_bytes: int

    def __str__(self) -> str:
        told = ", ".join(f"{form} {seconds * 1e3:.1f} ms" for form, seconds in self.seconds.items())
        return f"{self.form}: faster on {self.sample_bytes:,} bytes ({told}; medians of {CHOICE_ROUNDS})"


class Trainer:
    """One rank of the trainer. All ranks make one and call ``publish`` together; rank 0 also keeps the meeting place.

    Tensors are registered once and read at every ``publish``: update them in place.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        meeting: Meeting,
        config: WeightsConfig | None = None,
        *,
        rank: int = 0,
        ranks: int = 1,
        connect_seconds: float = 60.0,
    ) -> None:
        """Register ``parts`` and agree on the plan.

        Args:
            parts: what this rank holds of the full parameters.
            meeting: ``Meeting.host()`` at rank 0, ``Meeting.join(address)`` at the others.
            config: rank 0's holds for all; the others leave it out.
            rank: of this trainer.
            ranks: how many there are.
            connect_seconds: how long to wait for the other ranks.

        Raises:
            ValueError: parts that do not make up full parameters; or the meeting has such a trainer already.
            OSError: no room for the shared memory.
            TimeoutError: a rank did not come.
        """
        self.rank = rank
        self.timeline = Timeline()
        self._meeting = meeting
        self._sources, self._no_targets = Tensors(parts), Tensors(())
        self._mailbox = Mailbox(meeting, f"trainer {rank}")
        self._fleet = Fleet(meeting, ranks) if rank == 0 else None
        if meeting.count(f"trainers {rank}") > 1:
            raise ValueError(
                f"the meeting at {meeting.address} has a trainer {rank}: another one needs its own meeting"
            )
        meeting.post(f"held/{rank}", held_to_json(parts))
        if self._fleet is not None:
            meeting.post("config", (config or WeightsConfig()).model_dump_json())
        told = meeting.read("config", connect_seconds, "trainer 0 did not come")
        self.config = WeightsConfig.model_validate_json(told)
        self._transport = make_transport(meeting, self.config)
        if self._fleet is not None:
            self._post_plan(ranks, connect_seconds)
        self.plan = read_plan(meeting, connect_seconds)

    def publish(self, version: int) -> None:
        """Bring every replica to ``version``: all of them, or none. ``timeline`` then has this rank's stages.

        Publishing the current version again reaches only replicas that joined since.

        Raises:
            ValueError: a version that is no whole number from 0 to 2^63 - 1, or not trainer 0's.
            UpdateError: nobody has the new version; says which rank failed and how. Ranks not heard of for the time
                limit are left out of the next update and may join again. Comes within four time limits.
        """
        check_version(version)
        if self._fleet is not None:
            self._carry_out(self._fleet.call(version, self.config.form))
        else:
            call = self._next_call()
            if call.version != version:
                raise ValueError(f"trainer {self.rank} publishes version {version}, trainer 0 version {call.version}")
            self._carry_out(call)

    def choose(self, sample_buckets: int = 8) -> Choice:
        """Time both forms of a broadcast on the first buckets, without committing; the faster one is used from here on.

        All trainer ranks call it together. Replicas take part as in an update and stay at their version.
        """
        seconds: dict[Form, list[float]] = {form: [] for form in FORMS}
        # The first round opens connections and touches memory: not counted.
        for number in range(CHOICE_ROUNDS + 1):
            for form in FORMS:
                began = time.monotonic()
                self._carry_out(
                    self._next_call() if self._fleet is None else self._fleet.call(-1, form, rehearsed=sample_buckets)
                )
                if number:
                    seconds[form].append(time.monotonic() - began)
        medians = {form: statistics.median(times) for form, times in seconds.items()}
        sample = sum(bucket.nbytes for bucket in self.plan.buckets[:sample_buckets])
        choice = Choice(min(medians, key=lambda form: medians[form]), medians, sample)
        # Rank 0's call carries the form, so the other ranks need not agree with it.
        self.config = self.config.model_copy(update={"form": choice.form})
        return choice

    def await_replicas(self, number: int, time_limit: float) -> None:
        """Wait until so many replicas have joined: rank 0. Raises TimeoutError."""
        if self._fleet is not None:
            self._fleet.await_replicas(number, time_limit)

    def close(self) -> None:
        """Give the shared memory back, leave the process group."""
        self._transport.leave()

    def _post_plan(self, ranks: int, connect_seconds: float) -> None:
        try:
            held = [
                held_from_json(self._meeting.read(f"held/{rank}", connect_seconds, f"trainer {rank} did not come"))
                for rank in range(ranks)
            ]
            plan = make_plan(held, self.config.bucket_bytes)
            self._transport.claim(plan)
        except (ValueError, OSError) as error:
            refuse(self._meeting, error)
            raise
        self._meeting.post("plan", plan.to_json())

    def _next_call(self) -> Call:
        return self._mailbox.receive(self.config.time_limit)

    def _carry_out(self, call: Call) -> None:
        self.timeline = Timeline()
        error = None
        try:
            self._transport.move(
                self.plan, call, f"trainer {self.rank}", self._sources, self._no_targets, self.timeline
            )
        except FAILURES as failure:
            error = one_line(failure)
        vote(self._meeting, call, f"trainer {self.rank}", error)
        if self._fleet is None:
            await_decision(self._meeting, call, 3 * self.config.time_limit)
            return
        try:
            decide(self._meeting, call, self.config.time_limit)
        except UpdateRefusedError as refused:
            self._fleet.failed(refused)
            raise
        finally:
            self._transport.tidy(self.plan, call)
        if call.rehearsed is None:
            self._fleet.committed(call)
            self._transport.announce(call)
