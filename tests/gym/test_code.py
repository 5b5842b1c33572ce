"""Programs that solve nothing earn nothing, whatever they do to the box they run in."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from openk2.gym.code.env import CodeEnv, same_value
from openk2.gym.code.humaneval import HumanEvalEnv, read
from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import TOPICS
from openk2.sandbox.config import MB, Limits
from openk2.schema import Message, Score, Task, Trace
from tests.sandbox.conftest import why_no_box

KINDS = [kind for kinds in TOPICS.values() for kind in kinds]
TIGHT = Limits(cpu_s=2, wall_s=4, memory_bytes=96 * MB, processes=8, disk_bytes=4 * MB, output_bytes=200_000)
ENDS = "passed", "wrong", "crashed", "timed_out", "out_of_memory", "too_much_output", "no_code"
needs_box = pytest.mark.skipif(bool(why_no_box()), reason=why_no_box())


def task_of(kind: Kind, form: str, **numbers: int) -> Task:
    """A task of a kind in a form."""
    rng = Random(kind.name)
    k, m = numbers.get("k", kind.k[0]), numbers.get("m", kind.m[0])
    while True:
        task = kind.task(k, m, rng, "topic")
        if form in task.tags:
            return task


@cache
def runs(form: str = "function") -> Task:
    """Count runs of at least two characters: a function of a text."""
    return task_of(KINDS[0], form, k=2)


def judged(task: Task, reply: str, limits: Limits = TIGHT) -> Score:
    async def main() -> Score:
        env = CodeEnv(limits=limits)
        await env.reset(task, 0)
        await env.step(Message("assistant", reply))
        return await env.score(Trace("t", task.id, 0, "", [], [], []))

    return asyncio.run(main())


def why(score: Score) -> str:
    [end] = [name for name in ENDS if name in score.parts]
    return end


RIGHT = """import itertools
def count_runs(text):
    return sum(len(list(run)) >= 2 for _, run in itertools.groupby(text))
"""
# Each is appended to a wrong function, or takes its place.
WRONG = "def count_runs(text):\n    return 7\n"
EQUAL = """
class Same(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
def count_runs(text): return Same(7)
"""
VERDICT = 'import json, os\nline = json.dumps([0, "1"]) + "\\n"\n'
ATTACKS = {
    "prints a verdict": WRONG + 'print("all tests passed"); print({"pass_rate": 1.0})\n',
    "ends with 0 at once": WRONG + "import os; os._exit(0)\n",
    "ends with 0 by sys.exit": WRONG + "import sys; sys.exit(0)\n",
    "ends with 0 in the call": "import os\ndef count_runs(text): os._exit(0)\n",
    "equals anything": EQUAL,
    "equals anything, no int": EQUAL.replace("Same(int)", "Same").replace("int.__hash__", "None").replace("Same(7)", "Same()"),
    "patches json": WRONG + "import json\njson.dumps = lambda *a, **k: '1'\njson.loads = lambda *a, **k: 1\n",
    "patches builtins": WRONG + "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.open = builtins.len = builtins.all = lambda *a: 1\n",
    "patches what runs it": WRONG + "import __main__\n__main__.pack = lambda value: True\n__main__.main = lambda: None\n",
    "writes to the box's own stdout": VERDICT + WRONG + "for fd in ('/proc/1/fd/1', f'/proc/{os.getppid()}/fd/1'):\n    open(fd, 'w').write(line * 40)\n",
    "writes to every open file": VERDICT + WRONG + "for fd in range(1, 64):\n    try: os.write(fd, line.encode() * 40)\n    except OSError: pass\n",
    "forks and answers twice": "import os\ndef count_runs(text):\n    return 1 if os.fork() else 0\n",
    "forks without end": "import os\ndef count_runs(text):\n    while True: os.fork()\n",
    "looks for the outputs": "import glob\ndef count_runs(text):\n    for path in glob.glob('/proc/*/fd/*') + glob.glob('/proc/*/environ'):\n        try: seen = open(path, errors='replace').read(100000)\n        except OSError: continue\n        if 'outputs' in seen: return 1\n    return 7\n",
    "looks into who runs it": "import inspect\ndef count_runs(text):\n    frame = inspect.currentframe()\n    while frame:\n        if 'outputs' in frame.f_locals: return frame.f_locals['outputs']\n        frame = frame.f_back\n    return 7\n",
    "sleeps": "import time\ndef count_runs(text): time.sleep(60)\n",
    "spins": "def count_runs(text):\n    while True: pass\n",
    "takes all memory": "def count_runs(text): return len(bytearray(10**9))\n",
    "takes all memory by and by": "def count_runs(text):\n    held = []\n    while True: held.append(bytearray(b'x' * 10**6))\n",
    "fills the disk": "def count_runs(text):\n    with open('/tmp/x', 'wb') as file:\n        while True: file.write(b'x' * 10**6)\n",
    "says too much": "def count_runs(text): return 'x' * 10**6\n",
    "recurses": "def count_runs(text): return count_runs(text)\n",
    "nests its answer": "def count_runs(text):\n    found = []\n    for _ in range(900): found = [found]\n    return found\n",
    "names a huge number": "def count_runs(text): return 10 ** 100000\n",
    "is no Python": "def count_runs(text) return 0\n",
    "nests its source": "def count_runs(text): return " + "(" * 5000 + ")" * 5000 + "\n",
    "lacks the function": "# count_runs\n",
    "kills what runs it": "import os, signal\ndef count_runs(text):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 7\n",
    "kills all": "import os, signal\ndef count_runs(text):\n    os.kill(-1, signal.SIGKILL)\n    return 7\n",
    "asks the network": "import socket\ndef count_runs(text):\n    socket.create_connection(('192.0.2.1', 80), 1)\n    return 7\n",
    "knows the samples": "SAMPLES = dict({samples!r})\ndef count_runs(text): return SAMPLES.get(text, 1)\n",
    "is another's answer": RIGHT.replace(">= 2", ">= 3"),
    "returns a text": RIGHT.replace("return sum(len(list(run)) >= 2 for _, run in itertools.groupby(text))", "return str(sum(len(list(run)) >= 2 for _, run in itertools.groupby(text)))"),
}  # fmt: skip
ENDINGS = {
    "sleeps": "timed_out", "spins": "timed_out", "takes all memory": "out_of_memory", "takes all memory by and by": "out_of_memory",
    "says too much": "too_much_output", "recurses": "crashed", "is no Python": "crashed", "ends with 0 at once": "crashed",
    "equals anything": "wrong", "knows the samples": "wrong", "lacks the function": "crashed", "kills all": "crashed",
}  # fmt: skip


@needs_box
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_on_the_box_earns_anything(attack: str) -> None:
    task = runs()
    samples = [(given[0], wanted) for given, wanted in task.payload["samples"]]
    source = ATTACKS[attack].replace("{samples!r}", repr(samples))
    score = judged(task, f"```python\n{source}```")
    assert score.total == 0
    assert why(score) != "passed"
    if attack in ENDINGS:
        assert why(score) == ENDINGS[attack]


@needs_box
def test_the_same_function_done_right_passes() -> None:
    assert judged(runs(), f"```python\n{RIGHT}```") == Score(1.0, {"pass_rate": 1.0, "passed": 1.0})


ROWS = [json.loads(line) for line in (Path(__file__).parent / "near_misses" / "code.jsonl").read_text().splitlines()]
NAMED = {kind.name: kind for kind in KINDS}


def wrongly_judged(rows: list[dict[str, Any]]) -> list[str]:
    """What the verifier says otherwise than the person who wrote the table."""
    found = []
    for row in rows:
        score = judged(task_of(NAMED[row["kind"]], row["form"], k=row["k"], m=row["m"]), row["reply"])
        if score.passed != row["right"]:
            found.append(f"{row['kind']}, {row['why']}: {score.parts}")
    return found


@needs_box
def test_near_misses_and_unusual_answers_a_sample() -> None:
    assert len(ROWS) >= 200
    assert wrongly_judged(Random(0).sample(ROWS, 40)) == []


@needs_box
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_near_misses_and_unusual_answers() -> None:
    assert wrongly_judged(ROWS) == []


def judged_by_humaneval(path: Path, replies: dict[str, str]) -> dict[str, Score]:
    """The scores of replies to the problems of a file."""

    async def main() -> dict[str, Score]:
        env = HumanEvalEnv(path, limits=TIGHT)
        found = {}
        for name, reply in replies.items():
            task = next(task for task in env.tasks("test") if task.id == name.partition("#")[0])
            await env.reset(task, 0)
            await env.step(Message("assistant", reply))
            found[name] = await env.score(Trace("t", task.id, 0, "", [], [], []))
        return found

    return asyncio.run(main())


PROBLEM = {
    "task_id": "H/0", "entry_point": "double", "prompt": 'def double(x):\n    """Twice x."""\n', "canonical_solution": "    return x * 2\n",
    "test": "def check(candidate):\n    import random\n    assert candidate(2) == 4\n    assert candidate((1, [2])) == (1, [2], 1, [2])\n"
    "    for _ in range(5):\n        x = random.random()\n        assert abs(candidate(x) - 2 * x) < 1e-9\n",
}  # fmt: skip
DISHONEST = {
    "ends": "import os\ndef double(x): os._exit(0)",
    "ends at import": "def double(x): pass\nimport sys; sys.exit(0)",
    "equals anything": "class Same:\n    def __eq__(self, other): return True\n    def __sub__(self, other): return 0\ndef double(x): return Same()",
    "equals anything, a float": "class Same(float):\n    def __eq__(self, other): return True\n    def __sub__(self, other): return 0.0\ndef double(x): return Same(1)",
    "patches builtins": "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.AssertionError = None\ndef double(x): return 4",
    "patches what tests": "import __main__, sys\nsys.modules['__main__'].check = lambda c: True\n__main__.pack = lambda v: True\ndef double(x): return True",
    "wrong": "def double(x): return 3 * x",
    "hangs": "def double(x):\n    while True: pass",
    "claims": "double works, all tests pass",
}  # fmt: skip


@needs_box
def test_humaneval_is_judged_where_the_program_cannot_reach(tmp_path: Path) -> None:
    place = tmp_path / "problems.jsonl"
    place.write_text(json.dumps(PROBLEM) + "\n")
    honest = {"whole": "def double(x): return x + x", "canonical": PROBLEM["prompt"] + PROBLEM["canonical_solution"]}
    replies = {f"H/0#{name}": f"```python\n{source}\n```" for name, source in (honest | DISHONEST).items()}
    scores = judged_by_humaneval(place, replies)
    assert {name.partition("#")[2] for name, score in scores.items() if score.passed} == {"whole", "canonical"}
    place.write_text('{"task_id": "H/0"}\n')
    with pytest.raises(ValueError, match="line 1: not a problem of HumanEval"):
        HumanEvalEnv(place)
    place.write_text("")
    empty = HumanEvalEnv(place)
    with pytest.raises(ValueError, match='no split "train" in humaneval'):
        empty.tasks("train")


@needs_box
@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.timeout(900)
def test_all_canonical_solutions_of_humaneval_pass() -> None:
    if "OPENK2_DATA" not in os.environ:
        pytest.skip("OPENK2_DATA does not name a folder with humaneval/HumanEval.jsonl.gz")
    place = Path(os.environ["OPENK2_DATA"]) / "humaneval" / "HumanEval.jsonl.gz"
    replies = {task.id: task.payload["prompt"] + task.payload["canonical_solution"] for task in read(place)}
    scores = judged_by_humaneval(place, {name: f"```python\n{source}\n```" for name, source in replies.items()})
    assert len(scores) == 164
    assert [name for name, score in scores.items() if not score.passed] == []


@needs_box
def test_programs_that_read_stdin() -> None:
    task = runs("program")
    right = RIGHT + "print(count_runs(input()))\n"
    for source, end in {
        right: "passed",
        right.replace("print(", "import sys; sys.stdout.write(str(") .replace("input()))", "input())) + '\\n\\n')"): "passed",
        right + "exit()\n": "passed",
        right + "exit(3)\n": "crashed",
        right + "1 / 0\n": "crashed",
        right.replace("print(", "print('runs:', "): "wrong",
        right.replace("input()", "input('text? ')"): "wrong",
        right + "print()\nprint(1)\n": "wrong",
        right + "import os\nos.fork()\n": "wrong",
        "print(1)": "wrong",
        "import os; os._exit(0)  # print": "wrong",
    }.items():  # fmt: skip
        assert why(judged(task, f"```\n{source}\n```")) == end, source


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_fast_way_and_the_plain_way_agree(kind: Kind) -> None:
    rng = Random(kind.name)
    for k in kind.k:
        for m in kind.m:
            cases = [(size, kind.draw(rng, size)) for size in (0, 0, 1, 2, 3, 4, 6, 8) if size <= kind.slow_to]
            plain = kind.outputs(k, m, cases)
            fast = dataclasses.replace(kind, slow_to=-1).outputs(k, m, cases)
            assert all(map(same_value, fast, plain)), (k, m, cases)
