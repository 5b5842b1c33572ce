import asyncio
import json
import shutil
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: pip install 'openk2[mcp]'")

from openk2.agent import run_episode
from openk2.schema import Env, Message, Rubric, ToolCall
from openk2.worlds.mcp.env import McpEnv, filled
from openk2.worlds.mcp.servers import SERVERS, is_installed
from openk2.worlds.mcp.tasks import make_tasks

TASKS = make_tasks()


def skip_without(task):
    for name in task.payload["servers"]:
        if not is_installed(SERVERS[name]):
            pytest.skip(SERVERS[name].install_line)
    if "git" in task.payload["servers"] and shutil.which("git") is None:
        pytest.skip("sudo apt install git")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_the_gold_plan_passes_and_less_does_not(task):
    skip_without(task)
    env, answer = McpEnv(TASKS), task.payload["answer"]

    async def main():
        await env.reset(task, 0)
        try:
            rubric = Rubric.from_json(filled(task.rubric.to_json(), env.folder))
            assert (await env.world.score(rubric, "")).total == 0
            for step in task.payload["plan"]:
                assert not (await env.world.score(rubric, answer)).passed
                arguments = json.dumps(filled(step["arguments"], env.folder))
                assert "error" not in json.loads(await env.world.run(ToolCall("", step["tool"], arguments)))
            assert (await env.world.score(rubric, "")).passed == (answer == "")
            score = await env.world.score(rubric, answer)
            assert score.passed, (score, env.world.log)
        finally:
            await env.close()

    asyncio.run(main())


class Mover:
    """Moves the report as it was asked to, by the paths in the request."""

    async def complete(self, messages, tools, sampling):
        assert "move_file" in [tool.name for tool in tools]
        if messages[-1].role == "tool":
            return Message("assistant", "Moved.")
        path = messages[0].content.split()[1]
        arguments = {"source": path, "destination": path.replace("report", "archive/report")}
        return Message("assistant", "", [ToolCall("functions.move_file:0", "move_file", json.dumps(arguments))])


def test_the_episode_loop_plays_them_and_leaves_nothing():
    task = next(task for task in TASKS if task.kind == "move")
    skip_without(task)
    env = McpEnv(TASKS)

    async def main():
        for _ in range(2):
            trace = await run_episode(Mover(), env, task, seed=0)
            assert trace.score.passed
        await env.reset(task, 0)
        folder = env.folder
        assert (folder / "files" / "report.txt").is_file()
        await env.close()
        assert not folder.exists()

    asyncio.run(main())


def test_the_clock_is_converted_for_the_day_asked():
    answers = {}
    for day in (datetime(2026, 1, 15, 12, tzinfo=ZoneInfo("UTC")), datetime(2026, 3, 20, 12, tzinfo=ZoneInfo("UTC"))):
        for task in make_tasks(day):
            if task.kind == "to_new_york":
                answers[day.month] = task.payload["answer"]
    # In March America changes its clocks before Europe does.
    assert answers == {1: "It is 03:05 there.", 3: "It is 04:05 there."}


def test_a_server_that_is_not_installed_is_named_with_what_installs_it(tmp_path):
    env = McpEnv(TASKS, cache=tmp_path)
    assert isinstance(env, Env)
    with pytest.raises(FileNotFoundError, match=r"time is not installed: python -m openk2\.worlds\.mcp\.servers time"):
        asyncio.run(env.reset(next(task for task in TASKS if "time" in task.payload["servers"]), 0))
    with pytest.raises(AssertionError):
        env.folder.exists()
