import asyncio
import json

from openk2.agent import run_episode
from openk2.gym.tools import ToolEnv
from openk2.worlds.config import SPLITS, WorldsConfig
from openk2.worlds.tasks import Split
from openk2.worlds.teacher import ANSWERS, ScriptedTeacher

CONFIG = WorldsConfig(fault_rate=0.3)


def play(task, sloppiness, seed=0):
    teacher = ScriptedTeacher(task, seed=seed, sloppiness=sloppiness)
    return asyncio.run(run_episode(teacher, ToolEnv(CONFIG), task, seed=seed))


def test_a_careful_teacher_passes_through_faults_in_canonical_calls():
    retried = 0
    for split in SPLITS:
        for task in Split(CONFIG, split)[:60]:
            trace = play(task, 0.0)
            assert trace.score.passed, (task.to_json(), trace.messages)
            calls = [call for message in trace.messages for call in message.tool_calls]
            retried += len(calls) > len(task.payload["plan"])
            for index, call in enumerate(calls):
                assert call.id == f"functions.{call.name}:{index}"
                assert call.arguments == json.dumps(json.loads(call.arguments), separators=(",", ":"))
            assert len(trace.messages[-1].content) < 80
    assert retried > 30


def test_a_sloppy_teacher_fails_nearly_always_and_each_way():
    scores = [play(task, 1.0) for task in Split(CONFIG, "train")[:150]]
    failed = [trace for trace in scores if not trace.score.passed]
    assert len(failed) > 140
    missed = {name for trace in failed for name, part in trace.score.parts.items() if part < 1}
    assert missed >= {"changed", "created", "says", "looked_up", "nothing_else"}


def test_answers_vary():
    assert all(len(templates) >= 3 for templates in ANSWERS.values())
    said = {play(Split(CONFIG, "heldout")[0], 0.0, seed).messages[-1].content for seed in range(20)}
    assert len(said) >= 3
