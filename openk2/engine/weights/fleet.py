"""Who there is to update: trainer rank 0's list of replicas, which come late, die and come back."""

from __future__ import annotations

import time
from dataclasses import dataclass

from openk2.engine.weights.config import Form
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.rounds import Call, Mailbox, UpdateRefusedError

JOINS = "joins"
POLL_SECONDS = 0.02


def join(meeting: Meeting, name: str) -> str:
    """Have a replica counted in from the next update on; returns the name of this one life of it."""
    ticket = meeting.count(JOINS)
    meeting.post(f"join/{ticket}", name)
    return _member(name, ticket)


def leave(meeting: Meeting, member: str) -> None:
    """Have a replica left out of the next update."""
    meeting.post(f"left/{member}", "")


def _member(name: str, ticket: int) -> str:
    return f"replica {name} #{ticket}"


@dataclass(slots=True)
class _Replica:
    name: str
    mailbox: Mailbox
    version: int | None = None


class Fleet:
    """The replicas, and the next call to them."""

    def __init__(self, meeting: Meeting, trainers: int) -> None:
        self._meeting = meeting
        self._trainers = [Mailbox(meeting, f"trainer {rank}") for rank in range(trainers)]
        self._replicas: dict[str, _Replica] = {}
        self._seen: set[int] = set()
        self._round = 0
        self._generation = 0
        self._members: tuple[str, ...] = ()
        self._slot = 0

    def call(self, version: int, form: Form, *, rehearsed: int | None = None) -> Call:
        """Invite every trainer rank, and the replicas that are not at ``version``."""
        self._admit()
        chosen = [replica for replica in self._replicas.values() if replica.version != version]
        mailboxes = [*self._trainers, *(replica.mailbox for replica in chosen)]
        members = tuple(mailbox.member for mailbox in mailboxes)
        if members != self._members:
            self._members = members
            self._generation += 1
        self._round += 1
        call = Call(
            round=self._round,
            version=version,
            members=members,
            generation=self._generation,
            trainers=len(self._trainers),
            form=form,
            slot=1 - self._slot,
            rehearsed=rehearsed,
        )
        for mailbox in mailboxes[1:]:
            mailbox.call(call)
        return call

    def committed(self, call: Call) -> None:
        """Note who has the new version."""
        self._slot = call.slot
        for member in call.members[call.trainers :]:
            self._replicas[member].version = call.version

    def failed(self, refused: UpdateRefusedError) -> None:
        """Dismiss replicas that were silent, and start over with a new process group."""
        self._generation += 1
        for member in refused.silent:
            if member in self._replicas:
                self._replicas.pop(member).mailbox.dismiss("it was silent in an update")

    def await_replicas(self, number: int, time_limit: float) -> None:
        """Wait until so many have joined. Raises TimeoutError."""
        deadline = time.monotonic() + time_limit
        while True:
            self._admit()
            if len(self._replicas) >= number:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._replicas)} of {number} replicas joined within {time_limit:g} s")
            time.sleep(POLL_SECONDS)

    def _admit(self) -> None:
        """Read who joined and who left since the last look; a name that joins again has died before."""
        for ticket in range(1, int(self._meeting.peek(JOINS) or 0) + 1):
            name = None if ticket in self._seen else self._meeting.peek(f"join/{ticket}")
            if name is None:
                continue
            self._seen.add(ticket)
            self._meeting.forget([f"join/{ticket}"])
            for member in [member for member, replica in self._replicas.items() if replica.name == name]:
                self._replicas.pop(member).mailbox.dismiss("its name joined again")
            member = _member(name, ticket)
            self._replicas[member] = _Replica(name, Mailbox(self._meeting, member))
        for member in [member for member in self._replicas if self._meeting.peek(f"left/{member}") is not None]:
            del self._replicas[member]
            self._meeting.forget([f"left/{member}"])
