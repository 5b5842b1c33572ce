import ast
import json
from random import Random

import pytest

from openk2.schema import Task
from openk2.worlds.execution.gates import failed_gate
from openk2.worlds.execution.python import mutate
from openk2.worlds.execution.tasks import FAMILIES, make_task

KINDS = {
    "python": {"fix"}, "folder": {"total", "archive", "correct", "find"},
    "repository": {"find", "revert", "branch", "resolve"}, "database": {"ask", "ship", "cancel"},
}  # fmt: skip


def first_of_each_kind(family):
    found = {}
    for index in range(40):
        found.setdefault((task := make_task(family, "train", index)).kind, task)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_follows_from_its_index_and_every_kind_comes_up(family):
    assert make_task(family, "train", 3) == make_task(family, "train", 3)
    assert make_task(family, "train", 3).payload != make_task(family, "heldout", 3).payload
    assert set(first_of_each_kind(family)) == KINDS[family]
    task = make_task(family, "train", 3)
    assert Task.from_json(json.loads(json.dumps(task.to_json()))).to_json() == task.to_json()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_passes_the_gates(in_pool, family):
    async def main(pool):
        return [await failed_gate(task, pool=pool) for task in first_of_each_kind(family).values()]

    assert in_pool(main) == [None] * len(KINDS[family])


def test_each_gate_finds_a_task_made_to_fail_it(in_pool):
    good = make_task("folder", "train", 0).to_json()
    while good["kind"] != "correct":
        good = make_task("folder", "train", int(good["id"][-5:]) + 1).to_json()
    text = good["payload"]["plan"][-1]["arguments"]["text"]
    solved = {**good["payload"]["files"], "config.json": text}
    noisy = {"tool": "write_file", "arguments": {"path": "config.json", "text": text + "\n"}}
    bad = {
        "null": good | {"payload": good["payload"] | {"files": solved}},
        "prefix": good | {"payload": good["payload"] | {"plan": [*good["payload"]["plan"], noisy | {"arguments": {"path": "x", "text": "y"}}, noisy]}},
        "oracle": good | {"payload": good["payload"] | {"plan": good["payload"]["plan"][:1]}},
    }  # fmt: skip
    git = make_task("repository", "train", 0).to_json()
    clock = [{"tool": "run", "arguments": {"command": "date +%s%N; cat /proc/sys/kernel/random/uuid"}}]
    bad["replay"] = git | {"payload": git["payload"] | {"plan": clock + git["payload"]["plan"]}}

    async def main(pool):
        return {name: await failed_gate(Task.from_json(task), pool=pool) for name, task in bad.items()}

    assert in_pool(main) == {name: name for name in bad}


def test_a_mutation_changes_one_place_and_still_reads_as_python():
    source = "def f(items):\n    return [x * 3 + 1 for x in items if x > 2]\n"
    found = {mutate(source, Random(seed)) for seed in range(30)}
    assert len(found) > 5
    assert source not in found
    for wrong in found:
        ast.parse(wrong)
    with pytest.raises(ValueError, match="nothing to change"):
        mutate("def f(items):\n    return items\n", Random(0))
