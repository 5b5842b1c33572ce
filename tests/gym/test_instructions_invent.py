"""Invented instructions: what is believed of a writer's programs, which run in a real sandbox."""

from __future__ import annotations

import asyncio
import json

import pytest

from openk2.gym.agents import play
from openk2.gym.instructions.environment import InstructionsEnv
from openk2.gym.instructions.invent import Kept, Rejected, examine, invent, program_tasks
from openk2.gym.instructions.program import LIMITS, BrokenProgramError, verdicts
from openk2.gym.instructions.writer import Case, EndpointWriter, ScriptedWriter, Written
from openk2.sandbox.pool import Pool
from openk2.schema import Message
from tests.worlds.endpoint.asking import asking, prompt

GOOD = "def check(reply):\n    return reply.rstrip().endswith('?')"
ALIKE = "import re\ndef check(reply):\n    print('looking')\n    return bool(re.search(r'\\?\\s*$', reply))"
WRONG = "def check(reply):\n    return '?' in reply"
ALWAYS = "def check(reply):\n    return True"
SAYS = "End with a question mark."
CASES = tuple(
    Case(reply, holds)
    for reply, holds in (
        ("Who?", True), ("Is it? Yes.", False), ("No.", False), ("What now?\n", True), ("? no", False), ("Well!", False),
    )
)  # fmt: skip
WRITER = ScriptedWriter(
    {}, {GOOD: SAYS, ALIKE: SAYS, GOOD.replace(".rstrip()", ".strip()"): SAYS, WRONG: "Use a question mark."}
)


def examined(*programs: str, cases: tuple[Case, ...] = CASES) -> Kept | Rejected:
    return asyncio.run(examine(Written(SAYS, programs, cases), WRITER))


def test_a_right_program_is_kept():
    found = examined(GOOD)
    assert found == Kept(SAYS, GOOD, CASES, 1.0)


def test_the_best_of_several_is_kept_and_wrong_labels_go():
    mislabelled = (*CASES, Case("Really?", False))
    found = examined(WRONG, ALIKE, GOOD.replace(".rstrip()", ".strip()"), GOOD, cases=mislabelled)
    assert isinstance(found, Kept)
    assert found.program in (ALIKE, GOOD)
    assert found.cases == CASES
    assert found.agreement == 1.0
    alone = examined(GOOD, cases=mislabelled)
    assert isinstance(alone, Kept)
    assert (alone.cases, alone.agreement) == (mislabelled, 6 / 7)  # one program outweighs no label


def test_many_mistaken_labels_are_no_test():
    found = examined(GOOD, ALIKE, GOOD + "  # again", cases=(*CASES, Case("Really?", False), Case("Truly?", False)))
    assert isinstance(found, Rejected)
    assert (found.reason, found.detail) == ("replies disputed", "6 of 8 are left")


@pytest.mark.parametrize(
    ("program", "reason", "detail"),
    [
        (WRONG, "disagrees", "0.67 of the replies, not 0.80"),
        (ALWAYS, "constant", "the same of all replies"),
        ("def check(reply):\n    while True: pass", "broken", "timeout"),
        ("def check(reply):\n    return 1", "broken", "neither True nor False"),
        ("def check(reply:", "broken", "SyntaxError"),
        ("def verify(reply):\n    return True", "broken", "KeyError"),
        ("import os\nos._exit(0)", "broken", "no verdicts"),
        ("open('verdicts.json', 'w').write('[true]')\nimport os\nos._exit(0)", "broken", "neither"),
        ("open('verdicts.json', 'w').write('[' * 100000)\nimport os\nos._exit(0)", "broken", "no verdicts"),
        ("def check(reply):\n    return bytearray(10**10) is None", "broken", "MemoryError"),
        ("def check(reply):\n    while True: print('x' * 10000)", "broken", "output"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)\ncheck = str.istitle", "broken", "failed"),
        ("import os\nwhile True: os.fork()", "broken", ""),
        ("x" * 30_000, "broken", "longer than"),
        (
            "import os\nn = [int(os.path.exists('seen'))]\n"
            "def check(reply):\n    n[0] += 1\n    return (True, False, False, True, False, False)[n[0] - 1]",
            "unstable", "",
        ),
        (ALIKE.replace("looking", "seeing"), "means something else", "no description"),
    ],
)  # fmt: skip
def test_what_is_not_believed_is_kept_with_its_reason(program, reason, detail):
    found = examined(program)
    assert isinstance(found, Rejected)
    assert found.reason == reason
    assert detail in found.detail


@pytest.mark.parametrize("cases", [(), CASES[:3], tuple(Case(case.reply, True) for case in CASES)])
def test_too_few_replies_prove_nothing(cases):
    found = examined(GOOD, cases=cases)
    assert isinstance(found, Rejected)
    assert found.reason == "few replies"


def test_a_program_sees_no_host_and_keeps_nothing():
    spy = "import os\ndef check(reply):\n    assert not os.path.exists('/root/.ssh') and 'HOME_SECRET' not in os.environ\n    return True"
    assert asyncio.run(verdicts(spy, ["a"])) == [True]
    keeps = "import os\ndef check(reply):\n    seen = os.path.exists('seen')\n    open('seen', 'w')\n    return seen"
    assert [asyncio.run(verdicts(keeps, ["a"])) for _ in range(2)] == [[False], [False]]
    with pytest.raises(BrokenProgramError):
        asyncio.run(verdicts("raise SystemExit(3)", ["a"]))


RIGHT = {"instruction": SAYS, "programs": [GOOD, ALIKE], "cases": [{"reply": c.reply, "holds": c.holds} for c in CASES]}


def rule(body):
    """A model that writes by the sort it is asked for, describes programs by their text, and compares by words."""
    said = prompt(body)
    if "You invent" in said:
        for sort, answer in ANSWERS.items():
            if f'"{sort}"' in said:
                return answer
    if "You read a Python program" in said:
        return json.dumps({"instruction": "Use a question mark." if "in reply" in said else SAYS})
    first, second = (json.loads(line) for line in body["messages"][1]["content"].split("\n") if line.startswith('"'))
    return json.dumps({"reason": "their words", "agree": first == second})


ANSWERS = {
    "right": json.dumps(RIGHT),
    "wrong": json.dumps(RIGHT | {"programs": [WRONG]}),
    "hanging": json.dumps(RIGHT | {"programs": ["def check(reply):\n    while True: pass"]}),
    "hostile": json.dumps(RIGHT | {"programs": ["import os\nos.kill(os.getppid(), 9)\nopen('/etc/passwd', 'w')"]}),
    "misread": json.dumps(RIGHT | {"instruction": "End with a full stop."}),
    "prose": "End with a question mark, and here is my code.",
}


def test_an_endpoint_writes_and_only_what_holds_is_kept():
    async def use(endpoint):
        writer = EndpointWriter(endpoint)
        async with Pool(1, LIMITS) as pool:
            found = await invent(writer, tuple(ANSWERS), pool=pool)
        return *found, writer.num_unparsable

    (kept, rejected, num_unparsable), bodies = asking(rule, use)
    assert [found.program for found in kept] == [GOOD]
    assert {reject.reason for reject in rejected} >= {"broken", "means something else", "unreadable"}
    assert len(rejected) == 5
    assert num_unparsable == 1
    assert not any("while True" in prompt(body) and "You read" in prompt(body) for body in bodies)


def test_an_invented_instruction_scores_a_task():
    kept = Kept(SAYS, GOOD, CASES, 1.0)
    tasks = program_tasks([kept], each=4)
    assert len({task.id for task in tasks}) == 4
    assert tasks == program_tasks([kept], each=4)
    env = InstructionsEnv()
    for task in tasks[:2]:
        facts = ".\n".join(" ".join(entry) for entry in task.payload["content"]["entries"])
        for reply, total in ((f"{facts}.\nAll right?", 1.0), (f"{facts}.\nAll right.", 0.0), ("All right?", 0.0)):
            trace = asyncio.run(play(env, task, lambda *_, reply=reply: [Message("assistant", reply)]))
            assert trace.stop_reason == "done"
            assert trace.score.total == total
    broken = program_tasks([Kept(SAYS, "def check(reply):\n    raise OSError", CASES, 1.0)])[0]
    facts = ".\n".join(" ".join(entry) for entry in broken.payload["content"]["entries"])
    trace = asyncio.run(play(env, broken, lambda *_: [Message("assistant", facts)]))
    assert (trace.score.total, trace.score.parts) == (0.0, {"content": 1.0, "program 1": 0.0})


def test_a_script_writes_by_turns():
    one, two = Written("A", (GOOD,), CASES), Written(SAYS, (GOOD,), CASES)
    writer = ScriptedWriter({"ends": [one, two]}, {GOOD: "  end WITH a question mark."})
    kept, rejected = asyncio.run(invent(writer, ["ends", "nothing"], each=2))
    assert [found.instruction for found in kept] == [SAYS]
    assert [found.reason for found in rejected] == ["means something else", "unreadable", "unreadable"]
