"""A conversation with a person: calls and results are shown, the world behind them is live."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from rich.console import Console

from openk2.agent import run_episode
from openk2.gym.families import tasks
from openk2.pipeline.chat import ConversationEnv
from openk2.schema import Trace
from openk2.worlds.config import WorldsConfig
from openk2.worlds.teacher import ScriptedTeacher

WORLDS = WorldsConfig(num_heldout=8, fault_rate=0.0)


def talk(monkeypatch: pytest.MonkeyPatch, said: str) -> tuple[Trace, ConversationEnv, str]:
    """A conversation with the scripted teacher, and what the terminal shows."""
    task = tasks("tools", WORLDS, "heldout")[0]
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    shown = io.StringIO()
    env = ConversationEnv(WORLDS, Console(file=shown, width=200))
    teacher = ScriptedTeacher(task, seed=0, sloppiness=0.0)
    trace = asyncio.run(run_episode(teacher, env, task, seed=0))
    return trace, env, shown.getvalue()


def test_every_call_and_result_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    trace, env, shown = talk(monkeypatch, "\n\n")
    calls = [call for message in trace.messages for call in message.tool_calls]
    results = [message for message in trace.messages if message.role == "tool"]
    assert calls
    assert len(results) == len(calls)
    for call in calls:
        assert f"  {call.name} " in shown
        for value in json.loads(call.arguments).values():
            assert str(value) in shown
    for value in json.loads(results[0].content).values():
        assert str(value) in shown
    assert trace.stop_reason == "done"
    assert not env.left


def test_what_the_person_says_is_what_the_agent_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    trace, _, _ = talk(monkeypatch, "Something else entirely\n\n")
    assert trace.messages[0].content == "Something else entirely"


def test_the_end_of_input_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    trace, env, _ = talk(monkeypatch, "")
    assert env.left
    assert trace.stop_reason == "done"
    assert len(trace.messages) == 1
