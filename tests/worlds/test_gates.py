from dataclasses import replace

import pytest

from openk2.schema import Rubric
from openk2.worlds.config import WorldsConfig
from openk2.worlds.gates import failed_gate
from openk2.worlds.tasks import Split

TASKS = {task.kind: task for task in Split(WorldsConfig(fault_rate=0), "train")[:200]}


def payload(task, **changes):
    return replace(task, payload={**task.payload, **changes})


def loosened(task, *names):
    items = tuple(item for item in task.rubric.items if item.name in names)
    return replace(task, rubric=Rubric(items))


@pytest.mark.parametrize(
    ("task", "gate"),
    [
        (TASKS["transition"], None),
        (loosened(TASKS["transition"], "nothing_else"), "null"),  # doing nothing is enough
        (loosened(TASKS["transition"], "changed", "nothing_else"), "prefix"),  # no word is enough
        (loosened(TASKS["both"], "changed", "says", "nothing_else"), "prefix"),  # half of it is enough
        (payload(TASKS["both"], plan=TASKS["both"].payload["plan"][:1]), "oracle"),
        (
            payload(TASKS["transition"], plan=TASKS["transition"].payload["plan"] * 2),
            "prefix",
        ),  # the second call is idle
    ],
)
def test_each_gate_stops_what_it_is_for(task, gate):
    assert failed_gate(task, seed=0) == gate
