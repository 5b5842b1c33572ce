"""What is on the disk after a kill at any moment is what the next process needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from openk2.jobs import jsonl
from openk2.schema import Segment, Task, Trace
from openk2.train.rl.ledger import Ledger
from openk2.train.rl.rollout import Group, arrivals
from openk2.view.rl.rollouts import Rollouts

TASK = Task("t", "begin", "kind", "rl", {"question": "say 1"})
SAID: list[str] = []


def ledger(folder: Path, policy: str = "a") -> Ledger:
    return Ledger(folder, {"policy": policy}, say=SAID.append)


def trace(number: int, k: int) -> Trace:
    segments = [Segment("sampled", [number, k], [True, True], [-0.25, -1.5], 3, 0.8)]
    return Trace(f"t#{number}.{k}", "t", number, "hash", segments, [], [], "done", info={"reward": 0.5})


def group(number: int, finished: int = 2, paused: int = 0) -> Group:
    records = {finished + i: {"episode": {}, "drawn": None} for i in range(paused)}
    return Group(number, TASK, 10 + number, {k: trace(number, k) for k in range(finished)}, records)


def arrive(folder: Path, step: int, number: int, k: int) -> None:
    with jsonl.Appender(folder / arrivals(step, 0)) as file:
        file.write({"group": number, "rollout": k, "trace": trace(number, k).to_json()})


def standing(groups: list[Group]) -> dict[int, tuple[list[int], list[int]]]:
    return {group.number: (sorted(group.finished), sorted(group.paused)) for group in groups}


def test_a_batch_comes_back_as_it_was(tmp_path: Path) -> None:
    written = [group(0), group(3)]
    ledger(tmp_path).write_batch(7, written)
    assert ledger(tmp_path).batch(7) == written
    assert ledger(tmp_path).batch(8) is None


def test_the_page_shows_what_is_written(tmp_path: Path) -> None:
    ledger(tmp_path).write_batch(7, [group(0), group(3)])
    shown = Rollouts(tmp_path)
    shown.poll()
    assert shown.steps == [7]
    assert [(each.id, each.reward) for each in shown.of(7)] == [(f"t#{n}.{k}", 0.5) for n in (0, 3) for k in (0, 1)]
    assert shown.num_damaged == 0
    assert shown.trace(shown.of(7)[3]).id == "t#3.1"


def test_killed_while_it_played(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    it.write_batch(1, [group(0)])
    it.write_unfinished(1, [group(1, finished=1, paused=1), group(2, finished=0, paused=2)])
    arrive(tmp_path, 2, 1, 1)
    arrive(tmp_path, 2, 2, 0)
    found = ledger(tmp_path).recover(1, {})
    assert standing(found) == {1: ([0, 1], []), 2: ([0], [1])}
    assert found[0].finished[1] == trace(1, 1)


def test_killed_between_the_batch_and_what_stands_still(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    it.write_batch(1, [group(0)])
    it.write_unfinished(1, [group(1, finished=1, paused=1)])
    for number, k in ((1, 1), (2, 0)):
        arrive(tmp_path, 2, number, k)
    it.write_batch(2, [group(1)])
    found = ledger(tmp_path).recover(2, {2: [group(2, finished=0)], 1: [group(9)]})
    assert standing(found) == {2: ([0], [])}, "group 2 was drawn at step 2, group 1 was learnt from there"


def test_killed_in_the_step_that_began_its_prompts(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    it.write_unfinished(1, [])
    for number, k in ((4, 0), (4, 1), (5, 1)):
        arrive(tmp_path, 2, number, k)
    begun = [group(4, finished=0), replace(group(5, finished=0), task=Task("u", "begin", "kind", "rl", {}))]
    assert standing(ledger(tmp_path).recover(1, {2: begun})) == {4: ([0, 1], []), 5: ([], [])}, "5 is another task now"


def test_what_arrived_is_forgotten_once_it_is_known(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    arrive(tmp_path, 1, 0, 0)
    arrive(tmp_path, 2, 1, 0)
    it.write_unfinished(1, [group(0, finished=1)])
    assert [path.name for path in tmp_path.glob("arrived-*")] == [arrivals(2, 0)]
    assert standing(it.recover(1, {})) == {0: ([0], [])}


def test_what_arrived_stays_until_what_stands_still_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise ConnectionResetError

    it = ledger(tmp_path)
    it.write_unfinished(1, [group(1, finished=0, paused=2)])
    arrive(tmp_path, 2, 1, 0)
    with monkeypatch.context() as patched:
        patched.setattr(jsonl, "write", killed)
        with pytest.raises(ConnectionResetError):
            it.write_unfinished(2, [group(1, finished=1, paused=1)])
    assert standing(ledger(tmp_path).recover(1, {})) == {1: ([0], [1])}


def test_what_a_later_step_left_is_no_use_to_an_earlier_one(tmp_path: Path) -> None:
    ledger(tmp_path).write_unfinished(5, [group(7, finished=1, paused=1)])
    assert standing(ledger(tmp_path).recover(3, {4: [group(4, finished=0)]})) == {4: ([], [])}


def test_a_torn_last_line_is_no_trace(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    it.write_unfinished(1, [group(1, finished=0, paused=2)])
    arrive(tmp_path, 2, 1, 0)
    whole = (tmp_path / arrivals(2, 0)).read_bytes()
    (tmp_path / arrivals(2, 0)).write_bytes(whole + whole[: len(whole) // 2])
    assert standing(it.recover(1, {})) == {1: ([0], [1])}


@pytest.mark.parametrize("torn", [False, True])
def test_rollouts_of_another_policy_are_dropped_and_that_is_said(tmp_path: Path, torn: bool) -> None:
    ledger(tmp_path).write_batch(1, [group(0)])
    if torn:
        (tmp_path / "identity.json").unlink()
    SAID.clear()
    assert ledger(tmp_path, "a" if torn else "b").batch(1) is None
    assert len(SAID) == 1
    assert "of another policy" in SAID[0]
    assert ledger(tmp_path, "a" if torn else "b").batch(1) is None
    assert len(SAID) == 1


def test_old_batches_go(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    for step in (1, 2, 3):
        it.write_batch(step, [group(step)])
    it.forget(2)
    assert [it.batch(step) is None for step in (1, 2, 3)] == [True, True, False]


def test_a_course_that_is_not_gone_on_with_goes(tmp_path: Path) -> None:
    it = ledger(tmp_path)
    for step in (1, 2, 3):
        it.write_batch(step, [group(step)])
        arrive(tmp_path, step, step, 0)
    it.forget_after(2)
    assert [it.has_batch(step) for step in (1, 2, 3)] == [True, True, False]
    assert sorted(path.name for path in tmp_path.glob("arrived-*")) == [arrivals(1, 0), arrivals(2, 0)]
