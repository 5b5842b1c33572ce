"""Updates over real processes: every rank gets its own cut, late comers catch up, nobody else is disturbed."""

import time

import pytest

from openk2.engine.weights.fleet import Fleet
from openk2.engine.weights.replica import LOOK_SECONDS

VIA = pytest.mark.parametrize("via", ["shared", "gloo"])


@VIA
def test_trainers_and_replicas_that_cut_differently_agree_to_the_bit(world, via):
    own = world(via, ranks=2)
    replicas = [own.replica(f"r{rank}", rank, 2) for rank in range(2)]
    for version in (1, 2, 5):
        own.update(version, replicas)
        assert [child.ask("holds") for child in replicas] == [version, version]


@pytest.mark.parametrize("form", ["pipeline", "two-stage"])
def test_both_forms_of_a_broadcast(world, form):
    own = world("gloo", ranks=3, form=form)
    child = own.replica("r")
    for version in (1, 2):
        own.update(version, [child])
        assert child.ask("holds") == version


def test_in_shared_memory_a_late_replica_reads_alone(world):
    own = world("shared")
    first = own.replica("first")
    own.update(1, [first])
    late = own.replica("late")
    assert (late.joined_at, late.ask("holds")) == (1, 1)
    own.update(2, [first, late])
    assert [child.ask("holds") for child in (first, late)] == [2, 2]


def test_a_replica_stays_at_what_was_decided_before_it_is_announced(world, monkeypatch):
    own = world("shared")
    child = own.replica("r")
    own.update(1, [child])

    def at_leisure(fleet, call) -> None:
        # Time for a replica to have the decision and look twice.
        time.sleep(2 * LOOK_SECONDS + 0.2)
        committed(fleet, call)

    committed = Fleet.committed
    monkeypatch.setattr(Fleet, "committed", at_leisure)
    child.tell("update", 10.0)
    child.tell("update", 2.0)
    own.publish(2)
    assert child.hear() == 2
    assert child.hear()[0] == "TimeoutError"
    assert child.ask("holds") == 2
    # An older version that is published later is a new one.
    own.update(1, [child])
    assert child.ask("holds") == 1


def test_by_broadcast_a_late_replica_is_brought_up_without_the_others(world):
    own = world("gloo")
    first = own.replica("first")
    own.update(1, [first])
    late = own.replica("late")
    assert (late.joined_at, late.ask("holds")) == (None, None)
    # The first replica does not even look.
    own.update(1, [late])
    assert late.ask("holds") == 1
    own.update(2, [first, late])
    assert [child.ask("holds") for child in (first, late)] == [2, 2]


def test_a_rehearsal_times_both_forms_and_commits_nothing(world):
    own = world("gloo", ranks=1)
    child = own.replica("r")
    own.update(1, [child])
    child.tell("update", 10.0)
    choice = own.rank0.choose(sample_buckets=3)
    assert choice.seconds[choice.form] == min(choice.seconds.values())
    assert own.rank0.config.form == choice.form
    assert str(choice).startswith(f"{choice.form}: faster on ")
    own.publish(2)
    assert child.hear() == 2
    assert child.ask("holds") == 2


@VIA
def test_the_old_version_is_served_whole_until_the_new_one_is(world, via):
    own = world(via, bucket_bytes=128)
    child = own.replica("r")
    own.update(1, [child])
    for version in (2, 3):
        child.tell("serve")
        own.publish(version)
        assert child.hear() == [version - 1, version]
