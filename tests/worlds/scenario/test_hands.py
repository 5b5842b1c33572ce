"""Tasks in which the user acts too: both sides in one world, asked for in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from openk2.jobs import jsonl
from openk2.schema import Message, ToolCall, ToolSpec
from openk2.view.trajectories.record import check
from openk2.view.trajectories.story import story
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.faults import NO_FAULTS, FaultRates
from openk2.worlds.scenario.gates import failed_gate
from openk2.worlds.scenario.hands import choose, heard, request
from openk2.worlds.scenario.record import play, replays
from openk2.worlds.scenario.synthesize import KEPT, SynthesisConfig, scenario_of, synthesize
from openk2.worlds.scenario.write import USER_ACTS
from openk2.worlds.simulator import encode

CONFIG = SynthesisConfig()
SHARED = CONFIG.model_copy(update={"scenario": CONFIG.scenario.model_copy(update={"share_user_acts": 1.0})})
ROUGH = FaultRates(timeout=0.1, server_error=0.1, rate_limit=0.1, partial=0.0, stale=0.3, most=4)
NUM = 30

PROPERTIES = {"order_id": {"type": "string"}, "address": {"type": "string"}, "amount": {"type": "integer"}}
SPEC = ToolSpec("set_address", "Set it.", {"type": "object", "properties": PROPERTIES, "required": ["order_id"]})


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [scenario_of(SHARED, index) for index in range(NUM) if index != 3]  # where goals are in each other's way


@pytest.fixture(scope="module")
def good(scenarios: list[Scenario]) -> list[Scenario]:
    return [scenario for scenario in scenarios if scenario.held and failed_gate(scenario) is None]


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("Please use set_address with order_id K-481, address Mira, amount 84.", ("K-481", "Mira", 84)),
        ("Could you use `set_address`, order_id: K-481, amount = 84, and address is Mira?", ("K-481", "Mira", 84)),
        ("To go on, run set_address with order_id='K-481' and address 'Mira'; then tell me.", ("K-481", "Mira", None)),
        ("Please use set_address.", (None, None, None)),
        ('Please use set_address(order_id="K-481", address="Mira").', ("K-481", "Mira", None)),
        ('Please call set_address with {"order_id": "K-481", "amount": 84}', ("K-481", None, 84)),
        ("Please use **set_address**:\n- **order_id**: K-481\n- **address**: Mira", ("K-481", "Mira", None)),
        ("Call set_address with order_id K-481 and amount many.", ("K-481", None, "many")),
    ],
)
def test_what_a_user_understands(said: str, arguments: tuple[object, ...]) -> None:
    call = heard(said, [SPEC])
    assert call is not None
    wanted = dict(zip(("order_id", "address", "amount"), arguments, strict=True))
    assert json.loads(call.arguments) == {name: value for name, value in wanted.items() if value is not None}


@pytest.mark.parametrize(
    "said", ["Please do not use set_address.", "I won't use set_address.", "I did it without set_address."]
)
def test_what_a_user_takes_for_no_request(said: str) -> None:
    assert heard(said, [SPEC]) is None


@pytest.mark.parametrize(
    "said", ["Thank you for set_address.", "The address is set.", "Use set_addresses.", "", "use "]
)
def test_what_is_no_request(said: str) -> None:
    assert heard(said, [SPEC]) is None


def test_a_tool_that_words_cannot_ask_for_stays_with_the_agent() -> None:
    other = {"tool": "look", "arguments": {}}
    specs = {"set_address": SPEC, "look": ToolSpec("look", "", {"type": "object", "properties": {}, "required": []})}
    for address, may in (("Mira", True), ("Mira, and more", False), ("amount 7", False), ("", True)):
        step = {"tool": "set_address", "arguments": {"order_id": "K-1", "address": address}}
        held = {name for seed in range(20) for name in choose([step, other], specs, Random(seed))}
        assert ("set_address" in held) == may, address


def test_the_share_is_none_by_default_and_changes_no_other_task(scenarios: list[Scenario]) -> None:
    for shared in scenarios:
        plain = scenario_of(CONFIG, int(shared.id.rsplit("-", 1)[1]))
        assert not plain.held
        assert "held" not in plain.to_task().payload
        assert (plain.turns, plain.rubric, plain.stages) == (shared.turns, shared.rubric, shared.stages)
        assert (USER_ACTS in shared.tags) == bool(shared.held)


def test_most_tasks_can_be_shared_and_pass_the_gates(scenarios: list[Scenario], good: list[Scenario]) -> None:
    assert sum(bool(scenario.held) for scenario in scenarios) > 0.8 * NUM
    assert len(good) > 0.7 * NUM
    for scenario in good:
        assert not {tool.name for tool in scenario.tools} & set(scenario.held)
        assert {tool.name for tool in scenario.hands} == set(scenario.held)
        assert all(name in scenario.agent.prompt for name in scenario.held)
        task = scenario.to_task()
        again = Scenario.of(type(task).from_json(json.loads(json.dumps(task.to_json()))))
        assert again.held == scenario.held


def test_both_sides_act_in_one_world(good: list[Scenario]) -> None:
    for scenario in good:
        record = json.loads(json.dumps(play(scenario, number=0, seed=0, rates=ROUGH, sloppiness=0.0, recipe="test")))
        assert record["score"]["total"] == 1.0, record
        by = {call.get("by", "agent") for call in record["calls"]}
        assert by == {"agent", "user"} or all(call["name"] in scenario.held for call in record["calls"])
        for call in record["calls"]:
            assert (call["name"] in scenario.held) == (call.get("by") == "user")
        called = [call["function"]["name"] for message in record["messages"] for call in message.get("tool_calls", ())]
        assert called == [call["name"] for call in record["calls"] if "by" not in call]
        assert replays(record, scenario, ROUGH)


def test_a_record_replays_only_with_the_words_that_asked(good: list[Scenario]) -> None:
    record = play(good[0], number=0, seed=0, rates=NO_FAULTS, sloppiness=0.0, recipe="test")
    for message in record["messages"]:
        if message["role"] == "assistant" and message["content"].startswith("Please use"):
            message["content"] = "Please do it."
    assert not replays(record, good[0], NO_FAULTS)


def test_an_agent_cannot_do_it_alone(good: list[Scenario]) -> None:
    for scenario in good[:10]:
        conversation = Conversation(scenario, 0, NO_FAULTS)
        for turn in scenario.turns:
            for step in turn.calls:
                (told,) = conversation.call([ToolCall("", step["tool"], encode(step["arguments"]))])
                if step["tool"] in scenario.held:
                    assert json.loads(told.content) == {"error": "no such tool"}
            conversation.answer(turn.answer)
        assert conversation.ended
        assert not conversation.score().passed
        conversation.close()


def test_a_user_whom_nobody_needs_is_found_out(good: list[Scenario]) -> None:
    found = []
    for scenario in good:
        planned = {step["tool"] for turn in scenario.turns for step in turn.calls}
        if unneeded := sorted(set(scenario.names) - planned):
            found.append(failed_gate(replace(scenario, held=(unneeded[0],))))
    assert set(found) == {"alone"}


def test_asking_for_the_wrong_thing_does_the_wrong_thing(good: list[Scenario]) -> None:
    """The user is no oracle: what is asked for is done, and the rubric sees it."""
    failed = 0
    for scenario in good:
        conversation = Conversation(scenario, 0, NO_FAULTS)
        for turn in scenario.turns:
            for step in turn.calls:
                if step["tool"] in scenario.held:
                    wrong = {
                        name: "Z-1" if isinstance(value, str) else value for name, value in step["arguments"].items()
                    }
                    (said,) = conversation.answer(request({"tool": step["tool"], "arguments": wrong}))
                    assert said.role == "user"
                else:
                    conversation.call([ToolCall("", step["tool"], encode(step["arguments"]))])
            conversation.answer(turn.answer)
        failed += not conversation.score().passed
        conversation.close()
    assert failed > 0.9 * len(good)


def test_an_episode_goes_on_from_a_snapshot(good: list[Scenario]) -> None:
    scenario = good[0]
    step = next(step for turn in scenario.turns for step in turn.calls if step["tool"] in scenario.held)
    one, other = Conversation(scenario, 0, NO_FAULTS), Conversation(scenario, 0, NO_FAULTS)
    told = one.answer(request(step))
    other.restore(json.loads(json.dumps(one.snapshot())))
    assert other.world.log == one.world.log
    assert not other.ended
    assert one.answer(request(step)) == other.answer(request(step)) != told
    one.close()
    other.close()


def test_a_page_shows_the_users_calls_in_the_users_turns(good: list[Scenario]) -> None:
    for scenario in good:
        record = play(scenario, number=0, seed=0, rates=NO_FAULTS, sloppiness=0.0, recipe="test")
        told = story(check(json.loads(json.dumps(record)), "here"))
        assert told["without_turn"] == []
        by_user = [call["name"] for turn in told["turns"] if turn["role"] == "user" for call in turn["calls"]]
        assert by_user == [call["name"] for call in record["calls"] if "by" in call]


def test_they_can_be_filtered_by_their_tag(tmp_path: Path) -> None:
    half = CONFIG.model_copy(
        update={
            "scenario": CONFIG.scenario.model_copy(update={"share_user_acts": 0.5}),
            "num_tasks": 20,
            "trajectories_per_task": 1,
            "executor": "here",
        }
    )
    synthesize(half, tmp_path)
    kept = list(jsonl.read(tmp_path / KEPT))
    shared = [record for record in kept if USER_ACTS in record["tags"]]
    assert 0 < len(shared) < len(kept)
    for record in kept:
        assert any("by" in call for call in record["calls"]) <= (USER_ACTS in record["tags"])
        assert [Message.from_json(message).role for message in record["messages"]][-1] == "assistant"
