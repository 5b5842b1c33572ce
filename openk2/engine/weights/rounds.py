"""All or nothing: who takes part in an update, their votes, and the decision that binds everybody.

Two phases. Everybody stages the new version beside the old one and votes; trainer rank 0 decides "commit" only when
every vote says yes in time, and everybody does what was decided. A party that dies between its vote and the decision
binds nobody: when it comes back it joins anew. If trainer rank 0 itself dies in the moment of its decision, those
that have not read it stay at the old version, and the next update brings them in line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from openk2.engine.weights.config import Form
from openk2.engine.weights.meeting import Meeting

OK, COMMIT = "ok", "commit"
VERSIONS = 2**63
# Decisions are kept this many rounds for whoever reads late.
KEPT = 4


# What may go wrong on the way: a peer or a collective, damaged or foreign data, files and sockets.
FAILURES = (RuntimeError, ValueError, OSError)


def one_line(error: Exception) -> str:
    """The first line of what went wrong."""
    return str(error).partition("\n")[0] or type(error).__name__


def check_version(version: int) -> None:
    """Raises ValueError for what is no version."""
    if not isinstance(version, int) or not 0 <= version < VERSIONS:
        raise ValueError(f"a version is a whole number from 0 to 2^63 - 1, got {version!r}")


class UpdateError(RuntimeError):
    """An update that no rank has taken; all keep serving the version they had."""


@dataclass(frozen=True, slots=True)
class Call:
    """The invitation to an update."""

    round: int
    version: int
    # Trainer ranks first, in order.
    members: tuple[str, ...]
    # Changes whenever the members do or an update failed: process groups are kept while it stays.
    generation: int
    # How many of the members are trainer ranks.
    trainers: int
    form: Form
    # Which of the two shared segments the new version is written to.
    slot: int
    # A rehearsal moves so many buckets and is not committed; None is an update.
    rehearsed: int | None = None

    def to_json(self) -> str:
        """One line; ``from_json`` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Call:
        """Read what ``to_json`` wrote."""
        value = json.loads(text)
        return cls(**(value | {"members": tuple(value["members"])}))

    def rank(self, member: str) -> int:
        """A member's rank in the process group."""
        return self.members.index(member)


@dataclass(slots=True)
class Mailbox:
    """The calls that one member gets, one after the other."""

    meeting: Meeting
    member: str
    sent: int = 0

    def call(self, call: Call) -> None:
        """Invite the member."""
        self._post(call.to_json())

    def dismiss(self, reason: str) -> None:
        """Tell the member, should it still live, that it must join anew."""
        self._post(json.dumps({"dismissed": reason}))

    def receive(self, time_limit: float) -> Call:
        """Wait for the next call. Raises TimeoutError, or UpdateError when the member was dismissed."""
        text = self.meeting.read(self._key(self.sent), time_limit, f"{self.member} was called to no update")
        self.meeting.forget([self._key(self.sent)])
        self.sent += 1
        dismissed = json.loads(text).get("dismissed")
        if dismissed is not None:
            raise UpdateError(f"{self.member} was dismissed ({dismissed}): join again")
        return Call.from_json(text)

    def _post(self, text: str) -> None:
        self.meeting.post(self._key(self.sent), text)
        self.sent += 1

    def _key(self, number: int) -> str:
        return f"call/{self.member}/{number}"


class UpdateRefusedError(UpdateError):
    """The update failed, with the reasons of all and the members that were not heard of."""

    def __init__(self, call: Call, reasons: Sequence[str], silent: Sequence[str] = ()) -> None:
        super().__init__(f"version {call.version} was taken by nobody: {'; '.join(reasons)}")
        self.silent = tuple(silent)


def vote(meeting: Meeting, call: Call, member: str, error: str | None) -> None:
    """Say whether this member has the new version staged."""
    meeting.post(f"vote/{call.round}/{member}", OK if error is None else error)


def decide(meeting: Meeting, call: Call, time_limit: float) -> None:
    """Collect the votes, waiting up to ``time_limit`` seconds for them, and post the decision.

    Raises UpdateRefusedError with every reason, and the members that were silent, when it is not "commit".
    """
    reasons, silent = [], []
    deadline = time.monotonic() + time_limit
    for member in call.members:
        try:
            said = meeting.read(f"vote/{call.round}/{member}", max(0.0, deadline - time.monotonic()), "no vote")
        except TimeoutError:
            said = f"no vote within {time_limit:g} s"
            silent.append(member)
        if said != OK:
            reasons.append(f"{member}: {said}")
    meeting.post(f"decision/{call.round}", "; ".join(reasons) or COMMIT)
    meeting.forget([f"vote/{call.round}/{member}" for member in call.members] + [f"decision/{call.round - KEPT}"])
    if reasons:
        raise UpdateRefusedError(call, reasons, silent)


def await_decision(meeting: Meeting, call: Call, time_limit: float) -> None:
    """Wait for what was decided. Raises UpdateError when it is not "commit", or does not come."""
    try:
        decision = meeting.read(f"decision/{call.round}", time_limit, "trainer 0 decided nothing")
    except TimeoutError as error:
        raise UpdateRefusedError(call, [str(error)]) from None
    if decision != COMMIT:
        raise UpdateRefusedError(call, [decision])
