import asyncio
import json

import pytest

from openk2.agent import Budget, run_episode
from openk2.gym.desk import GREETING, STOP, DeskEnv
from openk2.schema import Env, Message, Sampling, ToolCall
from openk2.worlds.neighbours.tau2 import read_domain, read_tasks

DATABASE = {
    "tasks": {"task_1": {"task_id": "task_1", "title": "Old", "status": "pending"}},
    "users": {"ann": {"user_id": "ann", "name": "Ann", "tasks": ["task_1"]}},
}
DONE = {"name": "update_task_status", "arguments": {"task_id": "task_1", "status": "completed"}}
HISTORY = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes?"}]


class Speaker:
    """Says one prepared thing after another, and remembers what it was shown."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.shown = []

    async def complete(self, messages, tools, sampling):
        self.shown.append((list(messages), list(tools)))
        return self.messages.pop(0)


def says(text):
    return Message("assistant", text)


def calls(**arguments):
    return Message("assistant", "Doing it: 42.", [ToolCall("functions.f:0", DONE["name"], json.dumps(arguments))])


@pytest.fixture
def desk(tmp_path):
    """A domain and two tasks of it: one from the start, one in the middle of a dialogue."""
    folder = tmp_path / "mock"
    folder.mkdir()
    (folder / "db.json").write_text(json.dumps(DATABASE))
    (folder / "policy.md").write_text("Be kind.")
    item = {"user_scenario": {"persona": None, "instructions": "Have it done."}}
    criteria = {"actions": [DONE], "communicate_info": ["42"]}
    items = [
        {"id": "a", **item, "evaluation_criteria": criteria},
        {"id": "b", **item, "evaluation_criteria": criteria, "initial_state": {"message_history": HISTORY}},
    ]
    (folder / "tasks.json").write_text(json.dumps(items))
    domain = read_domain(folder)
    return domain, read_tasks(domain, folder / "tasks.json").tasks


def play(desk, task, user, assistant, **budget):
    domain, tasks = desk
    env = DeskEnv(domain, tasks, user, Sampling())
    assert isinstance(env, Env)
    return asyncio.run(run_episode(assistant, env, task, seed=0, budget=Budget(**budget)))


def test_the_user_speaks_the_calls_run_and_the_end_is_judged(desk):
    user = Speaker(says("Do task_1."), says(f"Thanks. {STOP}"))
    trace = play(desk, desk[1][0], user, Speaker(calls(**DONE["arguments"]), says("Done, 42.00 left.")))
    assert trace.score.passed
    assert trace.stop_reason == "done"
    assert [(message.role, message.content) for message in trace.messages] == [
        ("system", "Be kind."),
        ("assistant", GREETING),
        ("user", "Do task_1."),
        ("assistant", "Doing it: 42."),
        ("tool", '{"status":"completed","task_id":"task_1","title":"Old"}'),
        ("assistant", "Done, 42.00 left."),
        ("user", f"Thanks. {STOP}"),
    ]


def test_the_users_model_sees_its_scenario_and_what_was_said_with_the_parts_turned(desk):
    user = Speaker(says("Do task_1."), says(STOP))
    play(desk, desk[1][1], user, Speaker(calls(**DONE["arguments"]), says("Done.")))
    (first, _), (last, tools) = user.shown
    assert tools == []
    assert "Have it done." in last[0].content
    assert "persona" not in last[0].content
    assert [(m.role, m.content) for m in first[1:]] == [("assistant", "Hello."), ("user", "Yes?")]
    assert [(m.role, m.content) for m in last[1:]] == [
        ("assistant", "Hello."), ("user", "Yes?"), ("assistant", "Do task_1."), ("user", "Done."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "assistant",
    [
        [says("Done, 42.")],  # claims alone
        [calls(**DONE["arguments"]), says("Done.")],  # the fact was in no words the user saw
        [calls(task_id="task_9", status="completed"), says("Done, 42.")],
    ],
)
def test_whoever_does_or_says_less_fails(desk, assistant):
    user = Speaker(says("Do task_1."), says(STOP))
    assert not play(desk, desk[1][0], user, Speaker(*assistant)).score.passed


def test_one_environment_plays_again_on_fresh_records(desk):
    domain, tasks = desk
    user = Speaker(*[says("Do task_1."), says(STOP)] * 2)
    env = DeskEnv(domain, tasks, user, Sampling())
    good = Speaker(calls(**DONE["arguments"]), says("42"))
    assert asyncio.run(run_episode(good, env, tasks[0], seed=0)).score.passed
    assert not asyncio.run(run_episode(Speaker(says("42")), env, tasks[0], seed=0)).score.passed


def test_a_user_who_breaks_costs_the_episode_alone(desk):
    trace = play(desk, desk[1][0], Speaker(), Speaker())
    assert (trace.stop_reason, trace.score.total) == ("env_error", 0)


def test_bad_use_is_refused(desk):
    domain, (task, _) = desk
    env = DeskEnv(domain, [task], Speaker(), Sampling())
    assert env.tasks("test") == [task]
    with pytest.raises(ValueError, match='no split "train"'):
        env.tasks("train")
    task.payload["domain"] = "retail"
    with pytest.raises(ValueError, match="is not of the domain mock"):
        asyncio.run(env.reset(task, 0))
    for use in (env.snapshot, lambda: env.restore(b"")):
        with pytest.raises(ValueError, match="no snapshot"):
            use()
