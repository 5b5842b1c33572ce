from dataclasses import replace

import pytest

from openk2.worlds import tools
from openk2.worlds.evolve.author import evolve
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.evolve.self_check import self_check
from openk2.worlds.spec import Condition
from tests.worlds.evolve.apps import KENNEL


def test_the_tools_of_a_whole_category_run_and_refuse():
    found = self_check(evolve(EvolveConfig(categories=("devtools", "food"), num_applications=2)))
    assert found.faults == []
    assert len(found.num_tools) == 12
    assert found.num_calls["success"] == sum(found.num_tools.values())
    assert found.num_calls.keys() >= {
        "precondition",
        "unknown key",
        "in use",
        "ref to nothing",
        "value taken",
        "missing argument",
    }


@pytest.mark.slow
def test_every_tool_of_the_default_config_runs_and_refuses():
    found = self_check(evolve(EvolveConfig()))
    assert found.faults == []
    assert sum(found.num_tools.values()) >= 20_000


def test_an_app_by_hand_passes():
    assert self_check([KENNEL]).faults == []


@pytest.mark.parametrize(
    ("requires", "fault"),
    [
        ((Condition("weight", "no_less", bound=9), Condition("weight", "no_more", bound=3)), "no weight can meet"),
        ((Condition("kind", "in", ("cat", "dog", "emu")),), "no kind can break"),
    ],
)
def test_preconditions_that_nothing_meets_or_breaks_are_found(requires, fault):
    groom = replace(KENNEL.find_tool("groom"), requires=requires)
    (found,) = self_check([replace(KENNEL, tools=(groom,))]).faults
    assert found.startswith(f"kennel.groom: {fault}")


@pytest.mark.parametrize(
    ("op", "fault"),
    [
        ("add", "changed other records, or the right ones otherwise"),
        ("remove", "changed other records"),
        ("search", "answered"),
    ],
)
def test_an_executor_that_does_nothing_is_found_out(monkeypatch, op, fault):
    monkeypatch.setattr(tools, "RUN", {**tools.RUN, op: lambda *call: {"ok": True}})
    faults = self_check([KENNEL]).faults
    assert any("success" in found and fault in found for found in faults)


def test_an_executor_that_ignores_preconditions_is_found_out(monkeypatch):
    monkeypatch.setattr(tools, "_require", lambda *call: None)
    assert any(", precondition: answered" in found for found in self_check([KENNEL]).faults)
