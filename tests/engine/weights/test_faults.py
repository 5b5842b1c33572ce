"""What is killed, damaged or full: an error in time at everybody else, and the old version served on."""

import re
import signal
import time

import pytest

from openk2.engine.weights.rounds import UpdateError

from .fleet import LIMIT, version_held

VIA = pytest.mark.parametrize("via", ["shared", "broadcast"])
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
    with pytest.raises(UpdateError, match="version 2 was taken by nobody: .*replica victim #1: ") as told:
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
