import json

from openk2.schema import CallError, ToolCall
from openk2.worlds.config import WorldsConfig
from openk2.worlds.simulator import FAULT, Simulator
from openk2.worlds.tasks import make_task

CONFIG = WorldsConfig()


def call_of(step):
    return ToolCall("", step["tool"], json.dumps(step["arguments"]))


def test_faults_are_seeded_logged_and_at_their_rate():
    task = make_task(CONFIG, "train", 0)
    call = call_of(task.payload["plan"][0])
    struck = []
    for seed in range(400):
        world = Simulator(task.payload, seed, fault_rate=0.2)
        result = json.loads(world.run(call))
        assert world.log[0].fault == (result == {"error": FAULT})
        if world.log[0].fault:
            struck.append(seed)
            assert world.rows() == world.initial
            assert json.loads(world.run(call)).get("error") != FAULT  # one an episode
        world.close()
    assert 50 < len(struck) < 110
    again = Simulator(task.payload, struck[0], fault_rate=0.2)
    again.run(call)
    assert again.log[0].fault


def test_malformed_calls_get_an_answer_and_are_logged():
    world = Simulator(make_task(CONFIG, "train", 0).payload, 0, fault_rate=0.0)
    for call in (
        ToolCall("x", "get", "{", CallError.TRUNCATED),
        ToolCall("x", "get", "{"),
        ToolCall("x", "get", "[" * 100_000),
        ToolCall("x", "get", "9" * 10_000),
        ToolCall("x", "get", "[]"),
    ):
        assert json.loads(world.run(call))["error"].startswith("malformed call: ")
    assert [called.arguments for called in world.log] == [None] * 5
    assert world.rows() == world.initial


def test_restore_goes_back_and_the_replay_ends_alike():
    for index in range(40):
        task = make_task(CONFIG, "train", index)
        world = Simulator(task.payload, index, fault_rate=0.5)
        start = json.loads(json.dumps(world.snapshot()))
        for _ in range(2):
            for step in task.payload["plan"] * 2:
                world.run(call_of(step))
        end, log = world.state_hash(), world.log
        other = Simulator(task.payload, index, fault_rate=0.5)
        other.restore(start)
        for _ in range(2):
            for step in task.payload["plan"] * 2:
                other.run(call_of(step))
        assert (other.state_hash(), other.log) == (end, log)
