"""Ten thousand steps and a hundred thousand traces are looked into, not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.view.rl.learning import make

STEPS, TRACES = 10_000, 10
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from starlette.testclient import TestClient
from openk2.view.rl.app import application
from openk2.view.rl.read import Learning
taken = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
learning = Learning(Path(sys.argv[1]))
client, before = TestClient(application(learning), base_url="http://127.0.0.1"), taken()
def seconds(path, **parameters):
    began = time.process_time()
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return time.process_time() - began, answer
first, answer = seconds("/api/figures")
nothing, same = seconds("/api/figures", since=answer.json()["revision"])
again, _ = seconds("/api/figures", family="math", step=5000)
traces, found = seconds("/api/traces", step=4321, order="best")
opened, _ = seconds("/api/trace", step=9999, place=3)
print(json.dumps({"first": first, "nothing": nothing, "again": again, "traces": traces, "opened": opened, "bytes": len(answer.content),
                  "memory": taken() - before, "steps": answer.json()["num_steps"], "rows": found.json()["count"]}))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_steps(tmp_path: Path) -> None:
    run = make(tmp_path / "long", STEPS, num_traces=TRACES, num_workers=4)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run)], check=True, capture_output=True, text=True, timeout=200
    )
    found = json.loads(done.stdout)
    assert (found["steps"], found["rows"]) == (STEPS, TRACES)
    assert found["first"] < 20
    assert max(found["again"], found["traces"], found["opened"]) < 2
    assert found["nothing"] < 0.2
    assert found["bytes"] < 400_000
    assert found["memory"] < 150e6
