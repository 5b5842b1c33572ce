import asyncio
import json

import pytest

from openk2.agent import run_episode
from openk2.eval.harness import evaluate
from openk2.gym.neighbours import CallEnv
from openk2.schema import Env, Message, Sampling, Task, ToolSpec
from openk2.worlds.neighbours.call_gates import gold_reply
from openk2.worlds.neighbours.calls import Wanted, answer, call_task

PLAY = ToolSpec("play", "Plays.", {"type": "object", "properties": {"artist": {"type": "string"}}})


def make(artist, kind):
    wanted = Wanted("play", {"fields": {"artist": {"text": artist}}, "optional": []})
    return call_task(f"t-{artist}", "bfcl", kind, [Message("user", f"Play {artist}.")], [PLAY], [answer([wanted])])


TASKS = [make("Bach", "simple"), make("Abba", "simple"), make("Cher", "parallel")]


class Replies:
    """Knows what to say to each question; says nothing to others."""

    def __init__(self, **replies):
        self.replies = replies

    async def complete(self, messages, tools, sampling):
        return self.replies.get(messages[-1].content.split()[1].strip("."), Message("assistant"))


def gold(task):
    return gold_reply(task.payload["answers"][0])


def test_an_episode_shows_dialogue_and_tools_and_scores_the_first_reply():
    env = CallEnv(TASKS)
    assert isinstance(env, Env)
    trace = asyncio.run(run_episode(Replies(Bach=gold(TASKS[0])), env, TASKS[0], seed=0))
    assert (trace.score.total, trace.stop_reason, trace.tools) == (1, "done", [PLAY])
    assert [message.role for message in trace.messages] == ["user", "assistant"]
    assert asyncio.run(run_episode(Replies(Abba=gold(TASKS[0])), env, TASKS[1], seed=0)).score.total == 0
    assert asyncio.run(run_episode(Replies(), env, TASKS[2], seed=0)).score.total == 0


def test_the_harness_measures_by_category(tmp_path):
    model = Replies(Bach=gold(TASKS[0]), Cher=gold(TASKS[2]))
    results = asyncio.run(
        evaluate(
            model,
            lambda: CallEnv(TASKS),
            TASKS,
            run_episode=run_episode,
            sampling=Sampling(temperature=0),
            concurrency=2,
            out_path=tmp_path / "traces.jsonl",
            policy_id="replies",
        )
    )
    assert {kind: (rate.value, rate.n) for kind, rate in results.by_kind().items()} == {
        "simple": (0.5, 2),
        "parallel": (1, 1),
    }


def test_a_task_from_disk_plays_alike():
    env = CallEnv(TASKS)
    again = Task.from_json(json.loads(json.dumps(TASKS[0].to_json())))
    assert asyncio.run(env.reset(again, 1)) == asyncio.run(env.reset(TASKS[0], 2))


def test_bad_use_is_refused():
    env = CallEnv(TASKS)
    assert env.tasks("test") == TASKS
    with pytest.raises(ValueError, match='no split "train"'):
        env.tasks("train")
    with pytest.raises(ValueError, match="call reset first"):
        asyncio.run(env.step(Message("assistant")))
    with pytest.raises(ValueError, match="call reset first"):
        asyncio.run(env.score(None))
    for use in (env.snapshot, lambda: env.restore(b"")):
        with pytest.raises(ValueError, match="replay"):
            use()


def test_no_reply_scores_nothing_even_where_silence_is_right():
    async def unanswered():
        env = CallEnv([])
        await env.reset(call_task("t", "bfcl", "irrelevance", [Message("user", "Hi")], [PLAY], [answer()]), 0)
        return await env.score(None)

    assert asyncio.run(unanswered()).total == 0
