"""What a way for weights to travel offers, and which one a configuration names."""

from __future__ import annotations

from typing import Protocol

from openk2.engine.weights.broadcast import Broadcast
from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.copies import Tensors
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.plan import Plan
from openk2.engine.weights.rounds import Call, one_line
from openk2.engine.weights.shared import Shared
from openk2.engine.weights.timeline import Timeline


class Transport(Protocol):
    """One rank's end of it."""

    def move(self, plan: Plan, call: Call, member: str, sources: Tensors, targets: Tensors, timeline: Timeline) -> None:
        """Our part of an update: send what we hold, keep what we want."""

    def claim(self, plan: Plan) -> None:
        """Take what must be there before the first update: trainer rank 0."""

    def announce(self, call: Call) -> None:
        """Make the committed version readable for those who come late: trainer rank 0."""

    def tidy(self, plan: Plan, call: Call) -> None:
        """Forget what the update left in the meeting: trainer rank 0."""

    def catch_up(self, plan: Plan, targets: Tensors, taken: Call | None) -> Call | None:
        """Read the current version alone, where it came after ``taken``; returns the call that brought it."""

    def leave(self) -> None:
        """Let go of everything."""


def make_transport(meeting: Meeting, config: WeightsConfig) -> Transport:
    """The way that ``config`` names."""
    return Shared(meeting, config) if config.via == "shared" else Broadcast(meeting, config)


def refuse(meeting: Meeting, error: Exception) -> None:
    """Tell everybody who waits for the plan why there is none."""
    meeting.post("no plan", one_line(error))
    meeting.post("plan", "")


def read_plan(meeting: Meeting, time_limit: float) -> Plan:
    """The trainers' plan. Raises TimeoutError when it does not come, ValueError with their reason when there is none."""
    text = meeting.read("plan", time_limit, "the trainers published no plan")
    if not text:
        raise ValueError(f"the trainers have no plan: {meeting.read('no plan', time_limit, 'no reason came')}")
    return Plan.from_json(text)
