from __future__ import annotations

from pathlib import Path

from openk2.view.choose import choose
from openk2.view.run import Episode, read_run


def played(task: str, kind: str, **passed: bool) -> dict[str, Episode]:
    return {stage: Episode(task, stage, kind, ok, Path(), 0) for stage, ok in passed.items()}


def test_a_whole_run_yields_a_dozen_of_every_sort(whole_run: Path) -> None:
    chosen = choose(read_run(whole_run).episodes)
    assert len(chosen) == 12
    assert {example.task_set for example in chosen} == {"demonstrated", "undemonstrated", "unseen_domain"}
    assert {"newly solved", "solved", "not solved"} <= {example.verdict for example in chosen}
    assert len({example.episodes[-1].task_id for example in chosen}) == 12


def test_a_changed_outcome_is_shown_before_and_after() -> None:
    tasks = {"t": played("t", "k", base=False, sft=False, sft_control=True, rl=True)}
    (example,) = choose({"demonstrated": tasks})
    assert [episode.stage for episode in example.episodes] == ["sft", "rl"]
    assert example.verdict == "newly solved"


def test_an_unchanged_outcome_is_shown_once() -> None:
    tasks = {"t": played("t", "k", sft=True, rl=True), "u": played("u", "k", sft=False, rl=False)}
    found = {e.verdict: [x.stage for x in e.episodes] for e in choose({"demonstrated": tasks})}
    assert found == {"solved": ["rl"], "not solved": ["rl"]}


def test_kinds_take_turns() -> None:
    tasks = {f"t{i}": played(f"t{i}", "common" if i < 50 else f"rare-{i}", rl=True) for i in range(53)}
    kinds = [example.episodes[0].kind for example in choose({"demonstrated": tasks}, 4)]
    assert sorted(kinds) == ["common", "rare-50", "rare-51", "rare-52"]


def test_nothing_to_choose() -> None:
    assert choose({}) == []


def test_an_episode_is_read_from_its_place(whole_run: Path) -> None:
    episodes = read_run(whole_run).episodes["undemonstrated"]
    for task_id in ("undemonstrated-0", "undemonstrated-77", "undemonstrated-199"):
        for stage, episode in episodes[task_id].items():
            trace = episode.trace()
            assert (trace.task_id, trace.id) == (task_id, f"{task_id}-{stage}")
            assert trace.score is not None
            assert trace.score.passed == episode.passed
