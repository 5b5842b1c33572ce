import asyncio
import json

import pytest

from openk2.agent import run_episode
from openk2.gym.execution import ExecutionEnv
from openk2.schema import Env, Message, ToolCall
from openk2.worlds.execution.record import play, replays
from openk2.worlds.execution.tasks import FAMILIES, make_task
from openk2.worlds.execution.world import BoxWorld


def call(tool, **arguments):
    return ToolCall("functions.x:0", tool, json.dumps(arguments))


def after(task, *calls):
    """Run calls in a task's world: results, rows, score with the right answer."""

    async def main():
        world = BoxWorld(task.payload)
        await world.start()
        results = [json.loads(await world.run(one)) for one in calls]
        return results, await world.rows(), await world.score(task.rubric, task.payload["answer"])

    return asyncio.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_faultless_teacher_passes_and_its_record_replays(in_pool, family):
    async def main(pool):
        for index in range(3):
            task = make_task(family, "heldout", index)
            record = await play(task, seed=0, sloppiness=0.0, recipe="test", pool=pool)
            assert record["score"]["total"] == 1.0, record
            assert "stage" not in record
            assert await replays(record, task, pool=pool)
            record["calls"][-1]["result"] = {"forged": 1}
            assert not await replays(record, task, pool=pool)

    in_pool(main)


def test_mistakes_are_found_out(in_pool):
    async def main(pool):
        records = [
            await play(make_task(family, "train", index), seed=1, sloppiness=1.0, recipe="test", pool=pool)
            for family in FAMILIES
            for index in range(4)
        ]
        assert sum("stage" in record for record in records) >= len(records) * 3 // 4
        for record in records:
            assert ("reason" in record) == (record["score"]["total"] < 1)

    in_pool(main)


def test_hidden_tests_never_enter_the_agents_box_and_cannot_be_forged():
    task = make_task("python", "train", 0)
    hidden = json.dumps(task.payload["inputs"][0])[1:-1]
    results, _, _ = after(task, call("run", command=f"grep -rF '{hidden}' / --include='*' -s -l --exclude-dir=proc --exclude-dir=usr --exclude-dir=root; env; cat /box/*"))  # fmt: skip
    assert hidden not in results[0]["output"]
    name = task.payload["files"]["solution.py"].split("(")[0].removeprefix("def ")
    forged = (
        f"import os\nprint('{{\"value\": 0}}' * 20)\ndef {name}(items):\n    class All:\n"
        "        def __eq__(self, other): return True\n    return 0\nos.system('echo 0 failed')\n"
    )
    results, rows, score = after(task, call("write_file", path="solution.py", text=forged))
    assert rows["tests"]["hidden"]["failed"] >= len(task.payload["outputs"]) - 2
    assert not score.passed


def test_making_the_visible_tests_pass_is_not_enough():
    task = make_task("python", "train", 1)
    _, _, score = after(task, call("write_file", path="tests.py", text="print('0 failed')\n"))
    assert score.total == 0


def test_a_repository_that_would_run_programs_of_its_own_is_still_read_by_git_alone():
    task = next(t for t in (make_task("repository", "train", i) for i in range(40)) if t.kind == "revert")
    _, rows, score = after(
        task, call("run", command="git config core.fsmonitor 'echo forged'; git config core.pager 'echo forged'; git config alias.log '!echo forged'")
    )  # fmt: skip
    assert "forged" not in json.dumps({name: rows[name] for name in ("branch", "committed", "head")})
    assert not score.passed


def test_calls_that_cannot_be_done_are_told_why():
    task = make_task("folder", "train", 0)
    results, rows, _ = after(
        task, call("read_file", path="nothing"), call("write_file", path="../x", text=""), call("run", command="ls"),
        call("read_file"), ToolCall("", "read_file", "{"), call("move_file", source="config.json", target="notes/01.txt"),
    )  # fmt: skip
    assert "no file nothing" in results[0]["error"]
    assert "no path within" in results[1]["error"]
    assert results[2]["error"] == "unknown tool run"
    assert "takes path" in results[3]["error"]
    assert "malformed" in results[4]["error"]
    assert results[5]["exit_code"] != 0
    assert {path: row["words"] for path, row in rows["file"].items()} == {
        path: text.strip() for path, text in task.payload["files"].items()
    }


def test_sql_that_is_wrong_or_destroys_everything_leaves_a_world_that_can_be_judged():
    task = make_task("database", "train", 0)
    results, rows, score = after(task, call("query", sql="SELEC"), call("query", sql="DROP TABLE orders"))
    assert "syntax error" in results[0]["errors"]
    assert set(rows) == {"file", "customers"}
    assert not score.passed


class Planner:
    """Carries out a task's plan through the episode loop."""

    def __init__(self, task):
        self.payload = task.payload

    async def complete(self, messages, tools, sampling):
        done = sum(message.role == "assistant" for message in messages)
        if done == len(self.payload["plan"]):
            return Message("assistant", self.payload["answer"])
        step = self.payload["plan"][done]
        return Message("assistant", tool_calls=[call(step["tool"], **step["arguments"])])


class Silent:
    async def complete(self, messages, tools, sampling):
        return Message("assistant", "Done.")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_env_plays_pauses_and_resumes(family):
    first = ExecutionEnv((family,), 2)
    assert isinstance(first, Env)
    task = first.tasks("heldout")[0]

    async def main():
        trace = await run_episode(Planner(task), first, task, seed=0)
        assert trace.score.passed, trace
        assert not (await run_episode(Silent(), first, task, seed=0)).score.passed
        await first.reset(task, 0)
        messages, here, there = [Message("user", task.payload["request"])], first, ExecutionEnv((family,), 2)
        terminated = False
        while not terminated:
            there.restore(here.snapshot())
            here, there = there, here
            message = await Planner(task).complete(messages, [], None)
            seen = await here.step(message)
            messages += [message, *seen.messages]
            terminated = seen.terminated
        assert (await here.score(None)).passed

    asyncio.run(main())
