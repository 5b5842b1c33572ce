"""The meeting place: time limits that say what was waited for, and a socket on loopback alone."""

import socket
import time
from pathlib import Path

import pytest

from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.rounds import Call, Mailbox, UpdateError


def test_what_does_not_come_is_said_in_time():
    meeting = Meeting.host()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^the plan did not come within 0.2 s$"):
        meeting.read("plan", 0.2, "the plan did not come")
    assert 0.2 <= time.monotonic() - began < 2


def test_parties_read_what_another_posted():
    meeting = Meeting.host()
    other = Meeting.join(meeting.address)
    other.post("key", "value")
    assert meeting.read("key", 1, "nothing") == "value"
    assert [meeting.count("joins"), other.count("joins")] == [1, 2]
    meeting.forget(["key"])
    assert other.peek("key") is None


def test_nobody_at_an_address_is_said():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionError, match=rf"^nobody answered at 127.0.0.1:{port} within 1 s$"):
        Meeting.join(f"127.0.0.1:{port}", time_limit=1)
    with pytest.raises(ValueError, match="an address is host:port, got 'here'"):
        Meeting.join("here")


def test_it_listens_on_loopback_alone():
    meeting = Meeting.host()
    port = int(meeting.address.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_dismissed_member_is_told_why():
    meeting = Meeting.host()
    call = Call(1, 2, ("trainer 0", "replica r #1"), 1, 1, "pipeline", 0)
    ours, theirs = (Mailbox(meeting, "replica r #1") for _ in range(2))
    ours.call(call)
    ours.dismiss("it was silent in an update")
    assert theirs.receive(1) == call
    with pytest.raises(UpdateError, match=r"replica r #1 was dismissed \(it was silent in an update\): join again"):
        theirs.receive(1)
