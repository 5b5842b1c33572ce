"""What is killed, damaged or full: an error in time at everybody else, and the old version served on."""

import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import whole
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.rounds import UpdateError
from openk2.engine.weights.shared import claim
from openk2.engine.weights.trainer import Trainer

from .fleet import (
    LIMIT,
    Child,
    config,
    damage,
    full,
    leader,
    replica,
    replica_parts,
    trainer_parts,
)

VIA = pytest.mark.parametrize("via", ["shared", "gloo"])
# An update that fails is over within four time limits at everybody.
STATED = 4 * LIMIT


@VIA
def test_a_replica_killed_in_an_update_leaves_all_at_the_old_version_and_comes_back(world, via):
    own = world(via)
    victim, witness = own.replica("victim"), own.replica("witness")
    own.update(1, [victim, witness])

    victim.ask("die after", 2)
    for child in (victim, witness):
        child.tell("update", 10.0)
    began = time.monotonic()
    with pytest.raises(UpdateError, match=r"version 2 was taken by nobody: .*replica victim #1: ") as told:
        own.publish(2)
    kind, text, _ = witness.hear(STATED)
    assert time.monotonic() - began < STATED
    assert (kind, text) == ("UpdateRefusedError", str(told.value))
    assert victim.died() == -signal.SIGKILL
    assert witness.ask("holds") == 1

    again = own.replica("victim")
    assert again.joined_at == (1 if via == "shared" else None)
    own.update(3, [witness, again])
    assert [child.ask("holds") for child in (witness, again)] == [3, 3]


@VIA
def test_a_trainer_rank_killed_in_an_update(world, via):
    own = world(via, ranks=2)
    child = own.replica("r")
    own.update(1, [child])
    own.trainers[0].ask("die after", 2)
    child.tell("update", 10.0)
    began = time.monotonic()
    with pytest.raises(UpdateError, match=r"trainer 1: no vote within"):
        own.publish(2)
    kind, text, _ = child.hear(STATED)
    assert time.monotonic() - began < STATED
    assert kind == "UpdateRefusedError"
    assert re.search("trainer 1: no vote within", text)
    assert child.ask("holds") == 1


def test_without_trainer_0_replicas_say_so_and_serve_on(shared_folder, request):
    lead = Child(leader, shared_folder)
    request.addfinalizer(lead.close)
    address = lead.hear()
    lead.ask("register")
    child = Child(replica, address, "r", 0, 1)
    request.addfinalizer(child.close)
    child.hear()
    child.tell("update", 10.0)
    assert lead.ask("publish", 1) == 1
    assert child.hear() == 1
    lead.ask("die after", 2)
    child.tell("update", 10.0)
    lead.tell("publish", 2)
    kind, text, seconds = child.hear(STATED)
    assert (kind, seconds < STATED) == ("ConnectionError", True)
    assert text.startswith(f"the trainer's meeting place at {address} is gone")
    assert child.ask("holds") == 1


def test_a_damaged_bucket_is_named_and_refused(world):
    own = world("shared")
    child = own.replica("r")
    own.update(1, [child])
    damage(own.slot(1), at=5000)
    # One that comes now cannot start from it …
    parts = replica_parts(0, 1)
    with pytest.raises(ValueError, match=r"^bucket 2 \(experts.gate_up, …\) is damaged: its checksum differs$"):
        Replica("late", parts, Meeting.join(own.meeting.address))
    assert all(not part.tensor.any() for part in parts)
    # … while the others never knew.
    assert child.ask("holds") == 1


def test_a_bucket_damaged_in_an_update_leaves_all_at_the_old_version(world):
    own = world("shared")
    first, second = own.replica("first"), own.replica("second")
    own.update(1, [first, second])
    # One replica sleeps while the trainer writes, and wakes to a bit that has turned.
    os.kill(first.process.pid, signal.SIGSTOP)
    for child in (first, second):
        child.tell("update", 10.0)
    before = own.rank0.timeline
    with ThreadPoolExecutor(1) as beside:
        publishing = beside.submit(own.publish, 2)
        while own.rank0.timeline is before or len(own.rank0.timeline.spans) < len(own.rank0.plan.buckets):
            time.sleep(0.001)
        damage(own.slot(0), at=5000)
        os.kill(first.process.pid, signal.SIGCONT)
        with pytest.raises(UpdateError, match=r"nobody: replica first #1: bucket 2 \(experts.gate_up, …\) is damaged"):
            publishing.result(STATED)
    for child in (first, second):
        assert child.hear()[0] == "UpdateRefusedError"
        assert child.ask("holds") == 1
    own.update(3, [first, second])
    assert [child.ask("holds") for child in (first, second)] == [3, 3]


def test_a_full_shared_memory_is_one_line_for_everybody_and_leaves_nothing(shared_folder, request):
    lead = Child(leader, shared_folder, 20_000)
    request.addfinalizer(lead.close)
    address = lead.hear()
    kind, text, _ = lead.ask("register")
    room = rf"{shared_folder}/127.0.0.1-\d+-[0-9a-f]{{8}}-slot-0: no room for \d+,\d\d\d bytes of shared memory \(File too large\)"
    assert kind == "OSError"
    assert re.search(room, text)
    assert list(shared_folder.iterdir()) == []
    child = Child(replica, address, "r", 0, 1)
    request.addfinalizer(child.close)
    kind, text, _ = child.hear()
    assert kind == "ValueError"
    assert re.search(f"the trainers have no plan: .*{room}", text)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs takes root")
def test_a_full_tmpfs_is_an_error_and_no_bus_error(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        # The first of two segments fits.
        with pytest.raises(OSError, match=r"slot-1: no room for .* \(No space left on device\)"):
            Trainer(trainer_parts(full(0), 0, 1), Meeting.host(), config(tmp_path, "shared"))
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_memory_of_a_killed_trainer_is_found_and_given_back(shared_folder, request):
    lead = Child(leader, shared_folder)
    request.addfinalizer(lead.close)
    lead.hear()
    lead.ask("register")
    left = set(shared_folder.iterdir())
    parts = trainer_parts(full(0), 0, 1)
    beside = Trainer(parts, Meeting.host(), config(shared_folder, "shared"))
    assert len(left) == 2
    assert left < set(shared_folder.iterdir())  # while it lives, its memory is its own
    lead.close()
    after = Trainer(parts, Meeting.host(), config(shared_folder, "shared"))
    assert not left & set(shared_folder.iterdir())
    beside.close()
    after.close()
    assert list(shared_folder.iterdir()) == []


def test_a_second_trainer_leaves_the_first_as_it_is(world, shared_folder):
    own = world("shared")
    child = own.replica("r")
    own.update(1, [child])
    parts, same = trainer_parts(full(2), 0, 1)[:1], Meeting.join(own.meeting.address)
    with pytest.raises(ValueError, match=rf"^the meeting at {own.meeting.address} has a trainer 0: another one needs"):
        Trainer(parts, same, config(shared_folder, "shared"))
    # The same port, at another address of the machine.
    port = own.meeting.address.rpartition(":")[2]
    beside = Trainer(parts, Meeting.host(f"127.0.0.2:{port}"), config(shared_folder, "shared"))
    assert len(list(shared_folder.iterdir())) == 4
    own.update(2, [child])
    own.update(3, [child])
    assert [child.ask("holds"), own.replica("late").joined_at] == [3, 3]
    beside.close()


def test_a_segment_that_another_holds_is_named_and_left_whole(tmp_path):
    file = tmp_path / "segment-slot-0"
    first = claim(file, 1000)
    with pytest.raises(OSError, match=rf"^{file}: another trainer of this meeting holds it$"):
        claim(file, 10)
    assert file.stat().st_size == 1000
    os.close(first)


def test_a_replica_that_could_not_start_or_has_left_fails_no_update(world):
    own = world("shared")
    stays, leaves = own.replica("stays"), own.replica("leaves")
    own.update(1, [stays, leaves])
    damage(own.slot(1), at=5000)
    with pytest.raises(ValueError, match="is damaged"):
        Replica("late", replica_parts(0, 1), Meeting.join(own.meeting.address))
    leaves.ask("close")
    own.update(2, [stays])
    assert [stays.ask("holds"), leaves.ask("holds")] == [2, 1]


def test_weights_that_move_while_they_are_published_are_refused():
    # Large enough that sending takes tens of milliseconds, after a checksum of a few.
    trained, served = torch.zeros(2**23), torch.zeros(2**23)
    meeting, ended = Meeting.host(), threading.Event()
    own = Trainer(whole({"w": trained}), meeting, WeightsConfig(via="gloo", time_limit=10))
    replica = Replica("r", whole({"w": served}), Meeting.join(meeting.address))

    def train_on() -> None:
        while not ended.is_set():
            trained[-1] += 1

    with ThreadPoolExecutor(2) as beside:
        updating, training = beside.submit(replica.update, 10), beside.submit(train_on)
        try:
            with pytest.raises(UpdateError, match=r"replica r #1: bucket 0 \(w, …\) is damaged"):
                own.publish(1)
        finally:
            ended.set()
        training.result(10)
        with pytest.raises(UpdateError, match="is damaged"):
            updating.result(10)
        assert not served.any()
        updating = beside.submit(replica.update, 10)
        own.publish(2)
        assert updating.result(10) == 2
    assert torch.equal(served, trained)
    own.close()
    replica.close()


def test_a_replica_that_lives_but_does_not_look_is_dismissed_and_told(world):
    own = world("shared")
    awake, asleep = own.replica("awake"), own.replica("asleep")
    awake.tell("update", 10.0)
    with pytest.raises(UpdateError, match=r"replica asleep #2: no vote within 2 s"):
        own.publish(1)
    assert awake.hear()[0] == "UpdateRefusedError"
    own.update(2, [awake])
    kind, text, _ = asleep.ask("update", 10.0)
    assert (kind, text) == (
        "UpdateRefusedError",
        "version 1 was taken by nobody: replica asleep #2: no vote within 2 s",
    )
    kind, text, _ = asleep.ask("update", 10.0)
    assert (kind, text) == ("UpdateError", "replica asleep #2 was dismissed (it was silent in an update): join again")
    assert asleep.ask("holds") is None
