import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from openk2.agent import run_episode
from openk2.gym.tools import ToolEnv
from openk2.jobs import jsonl
from openk2.schema import Message, ToolSpec
from openk2.worlds.config import WorldsConfig
from openk2.worlds.synthesize import synthesize

CONFIG = WorldsConfig(num_train=120, sloppiness=0.3)


def run(config, folder, loop=run_episode):
    return asyncio.run(synthesize(config, folder, loop, lambda: ToolEnv(config)))


def test_records_are_whole_and_rejects_have_reasons(tmp_path):
    heard = []
    funnel = asyncio.run(synthesize(CONFIG, tmp_path, run_episode, lambda: ToolEnv(CONFIG), heard.append))
    traces, rejects = list(jsonl.read(tmp_path / "traces.jsonl")), list(jsonl.read(tmp_path / "rejects.jsonl"))
    assert len(traces) + len(rejects) == 120 == heard[-1]
    assert 15 < len(rejects) < 60
    for record in traces:
        messages = [Message.from_json(message) for message in record["messages"]]
        assert [ToolSpec.from_json(tool) for tool in record["tools"]]
        assert messages[0].role == "user"
        assert messages[-1].role == "assistant"
        assert record["score"] == 1
        assert record["kind"] not in CONFIG.undemonstrated_kinds
        assert record["app"] in CONFIG.demonstrated
    assert all(record["stage"] == "judge" and record["reason"].startswith("missed ") for record in rejects)
    written = json.loads((tmp_path / "funnel.json").read_text())
    assert written == funnel.to_json()
    assert written["judge"]["kept"] == len(traces)
    assert sum(written["judge"]["reasons"].values()) == len(rejects)


def test_a_second_run_adds_nothing_and_a_longer_one_only_what_is_new(tmp_path):
    run(CONFIG, tmp_path)
    before = (tmp_path / "traces.jsonl").read_bytes()
    run(CONFIG, tmp_path)
    assert (tmp_path / "traces.jsonl").read_bytes() == before
    run(CONFIG.model_copy(update={"num_train": 150}), tmp_path)
    after = (tmp_path / "traces.jsonl").read_bytes()
    assert after.startswith(before)
    assert len(after) > len(before)


def test_a_broken_environment_costs_its_record_alone(tmp_path):
    async def loop(model, env, task, *, seed):
        if task.id.endswith("7"):
            raise RuntimeError("lost")
        return await run_episode(model, env, task, seed=seed)

    funnel = run(CONFIG, tmp_path, loop).to_json()
    assert funnel["episode"]["reasons"] == {"RuntimeError: lost": 12}
    assert funnel["judge"]["kept"] + funnel["judge"]["rejected"] == 108


PROGRAM = """
import asyncio, sys
from pathlib import Path
from openk2.agent import run_episode
from openk2.gym.tools import ToolEnv
from openk2.worlds.config import WorldsConfig
from openk2.worlds.synthesize import synthesize
config = WorldsConfig(num_train=400, sloppiness=0.3)
asyncio.run(synthesize(config, Path(sys.argv[1]), run_episode, lambda: ToolEnv(config)))
"""


@pytest.mark.parametrize("after_bytes", [1, 200_000])
def test_killed_and_started_again_it_loses_and_doubles_nothing(tmp_path, after_bytes):
    path = tmp_path / "traces.jsonl"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)])
    while program.poll() is None and not (path.exists() and path.stat().st_size >= after_bytes):
        time.sleep(0.005)
    os.kill(program.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    with path.open("ab") as file:
        file.write(b'{"task_id":"train-0')  # as torn as a kill can leave it
    num_before = path.read_bytes().count(b"\n")
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True)
    ids = [record["task_id"] for name in ("traces", "rejects") for record in jsonl.read(tmp_path / f"{name}.jsonl")]
    assert num_before < 400
    assert sorted(ids) == [f"train-{index:06d}" for index in range(400)]
