"""Rollouts: played together, paused with their environments, taken up by this process or another."""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.jobs import jsonl
from openk2.model.transformer import Transformer
from openk2.schema import Message, Observation, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.train.rl.rollout import Group, Player, Playing, arrivals
from tests.train.episodes import (
    VOCAB,
    BeginEnv,
    make_agent,
    make_chat,
    make_groups,
    make_order,
    make_playing,
    play_groups,
    wanted_share,
)


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return make_chat()


@pytest.fixture(scope="module")
def model(chat: ChatFormat) -> Transformer:
    return make_agent(chat)[0]


def long_playing(chat: ChatFormat, folder: Path, **changes: Any) -> Playing:
    """Turns of eight tokens in the mean: some episodes take much longer than others."""
    engine = EngineConfig(max_rows=64, max_context=128)
    stops = frozenset(range(VOCAB * 7 // 8, VOCAB))
    settings = {"engine": engine, "stop_ids": stops, "max_tokens": 80, "context": 128}
    return make_playing(chat, folder, **(settings | changes))


def taken_up(model: Transformer, playing: Playing, quota: int = 1) -> tuple[list[Group], list[Group]]:
    """What one player told of eight groups when so many were finished, and how another finished the rest."""
    killed, after = Player(model, playing), Player(model, playing)
    told = killed.play(make_order(playing, make_groups(8), quota=quota)).unfinished
    killed.close()
    # As a process that comes after would read it: what is told does not change any more.
    again = [Group.from_json(json.loads(json.dumps(group.to_json()))) for group in told]
    rest = after.play(make_order(playing, again, quota=8)).finished
    after.close()
    return told, rest


def tokens(groups: list[Group]) -> dict[tuple[int, int], list[int]]:
    return {(group.number, k): trace.token_ids for group in groups for k, trace in group.finished.items()}


def logprobs(groups: list[Group]) -> list[float]:
    """Of all sampled tokens, in the order of groups and rollouts."""
    traces = [trace for group in sorted(groups, key=lambda g: g.number) for _, trace in sorted(group.finished.items())]
    return [logprob for trace in traces for segment in trace.segments for logprob in segment.logprobs or ()]


def test_rollouts_of_a_prompt_differ_and_repeat(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = make_playing(chat, tmp_path)
    first, again, other = (play_groups(model, playing, seed=seed) for seed in (3, 3, 4))
    for group in first:
        assert len({trace.task_id for trace in group}) == 1
        assert len({trace.seed for trace in group}) == 1, "the environment draws the same for all"
        assert len({tuple(trace.token_ids) for trace in group}) > 1
    found = [[trace.token_ids for group in groups for trace in group] for groups in (first, again, other)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_cut_episode_pays_the_penalty_whatever_its_score(
    model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    playing = make_playing(
        chat, tmp_path, max_tokens=50, budgets={"begin": 40, "begin/kind-1": 1}, truncation_penalty=0.25
    )
    for group in play_groups(model, playing):
        for trace in group:
            if trace.info["kind"] == "kind-1":
                assert trace.num_sampled == 1
            assert trace.num_sampled <= 40
            expected = wanted_share(trace) if trace.stop_reason == "done" else -0.25
            assert trace.info["reward"] == expected
    cut = [trace.stop_reason == "token_budget" for group in play_groups(model, playing) for trace in group]
    assert any(cut)
    assert not all(cut)


def test_the_long_tail_stands_still_and_goes_on(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    """Draws depend on seed and position alone: under the same weights a pause changes nothing."""
    playing = long_playing(chat, tmp_path)
    whole = Player(model, playing)
    expected = whole.play(make_order(playing, make_groups(8)))
    whole.close()
    player = Player(model, playing)
    first = player.play(make_order(playing, make_groups(8), quota=2))
    assert 2 <= len(first.finished) < 8
    assert first.counts["paused"] > 0
    rest = player.play(make_order(playing, [], quota=8, weight_version=1))
    player.close()
    found = tokens(first.finished + rest.finished)
    assert found == tokens(expected.finished)
    assert logprobs(first.finished + rest.finished) == pytest.approx(logprobs(expected.finished), abs=1e-4)
    versions = [
        [segment.weight_version for segment in trace.segments if segment.source == "sampled"]
        for group in rest.finished
        for trace in group.finished.values()
    ]
    assert any(set(each) == {0, 1} for each in versions), "each token keeps the version of the weights that drew it"
    for group in rest.finished:
        for trace in group.finished.values():
            for segment in trace.segments:
                assert (segment.logprobs is None) == (segment.source != "sampled")
                assert segment.temperature == (1.0 if segment.source == "sampled" else None)


class Replayed(BeginEnv):
    resumable = "replay"


class Alone(BeginEnv):
    resumable = "none"


class Forgetful(Replayed):
    """Answers otherwise when it is played again."""

    plays = 0

    async def reset(self, task: Task, seed: int) -> Observation:
        await super().reset(task, seed)
        Forgetful.plays += 1
        return Observation([Message("user", f"say {Forgetful.plays}")], [])


@pytest.mark.parametrize("env", [BeginEnv, Replayed, Alone])
def test_another_process_takes_it_up(model: Transformer, chat: ChatFormat, tmp_path: Path, env: type[BeginEnv]) -> None:
    """A process that comes after knows what was told, as JSON; half-drawn turns come along."""
    playing = long_playing(chat, tmp_path, make_env=lambda _: env())
    whole = Player(model, playing)
    expected = whole.play(make_order(playing, make_groups(8))).finished
    whole.close()
    killed = Player(model, playing)
    first = killed.play(make_order(playing, make_groups(8), quota=1))
    told = json.loads(json.dumps([group.to_json() for group in first.unfinished]))
    killed.close()
    groups = [Group.from_json(row) for row in told]
    num_paused = sum(len(group.paused) for group in groups)
    assert (num_paused == 0) == (env is Alone)
    drawn = [record["drawn"] for group in groups for record in group.paused.values()]
    assert env is Alone or any(each is not None for each in drawn)
    after = Player(model, playing)
    rest = after.play(make_order(playing, groups, quota=len(groups)))
    after.close()
    assert rest.counts["resumed"] == num_paused
    assert tokens(first.finished + rest.finished) == tokens(expected)
    assert logprobs(first.finished + rest.finished) == pytest.approx(logprobs(expected), abs=1e-4)


def test_an_environment_that_answers_otherwise_costs_its_trace(
    model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    told, rest = taken_up(model, long_playing(chat, tmp_path, make_env=lambda _: Forgetful()))
    assert any(record["episode"]["begun"] for group in told for record in group.paused.values())
    reasons = {trace.info.get("dropped") for group in rest for trace in group.finished.values()}
    assert "env_diverged" in reasons


def test_what_finishes_is_on_the_disk_at_once(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path)
    player = Player(model, playing)
    played = player.play(make_order(playing, make_groups(8), quota=2, weight_version=6))
    player.close()
    rows = list(jsonl.read(tmp_path / arrivals(7, 0)))
    written = {(row["group"], row["rollout"]): Trace.from_json(row["trace"]).token_ids for row in rows}
    told = tokens(played.finished + played.unfinished)
    assert written.items() <= told.items(), "what ended in the last moment is told, and written later"
    assert len(written) >= len(tokens(played.finished)) > 0


def test_what_old_weights_began_is_given_up(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path)
    player = Player(model, playing)
    first = player.play(make_order(playing, make_groups(8), quota=1))
    rest = player.play(make_order(playing, [], quota=8, weight_version=5, oldest_version=4))
    player.close()
    begun = {(group.number, k) for group in first.unfinished for k in group.paused}
    dropped = {
        (group.number, k)
        for group in rest.finished
        for k, trace in group.finished.items()
        if trace.info.get("dropped") == "stale"
    }
    assert dropped <= begun
    assert len(dropped) > len(begun) / 2, "but for those whose last turn had just ended"


def temperatures(groups: list[Group]) -> dict[tuple[int, int], list[tuple[int, float | None]]]:
    return {
        (group.number, k): [(len(s.token_ids), s.temperature) for s in trace.segments if s.source == "sampled"]
        for group in groups
        for k, trace in group.finished.items()
    }


def test_a_turn_ends_at_the_temperature_it_was_begun_with(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path)
    here, there = Player(model, playing), Player(model, playing)
    first = here.play(make_order(playing, make_groups(8), quota=1, temperature=1.5))
    groups = [Group.from_json(json.loads(json.dumps(group.to_json()))) for group in first.unfinished]
    assert any(record["drawn"] is not None for group in groups for record in group.paused.values())
    expected = here.play(make_order(playing, [], quota=8, temperature=0.5)).finished
    found = there.play(make_order(playing, groups, quota=8, temperature=0.5)).finished
    here.close()
    there.close()
    assert tokens(found) == tokens(expected)
    assert temperatures(found) == temperatures(expected)
    assert {temperature for some in temperatures(found).values() for _, temperature in some} == {1.5, 0.5}


def test_who_has_nothing_to_finish_tells_what_it_was_given(
    model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    playing = long_playing(chat, tmp_path)
    killed = Player(model, playing)
    told = killed.play(make_order(playing, make_groups(8), quota=1)).unfinished
    killed.close()
    after = Player(model, playing)
    again = after.play(make_order(playing, [Group.from_json(group.to_json()) for group in told], quota=0)).unfinished
    after.close()
    assert {group.number: sorted(group.paused) for group in again} == {g.number: sorted(g.paused) for g in told}
    assert any(group.paused for group in again)


def test_closing_writes_nothing_down(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    """The file is closed then, and its number may be another's."""
    playing = long_playing(chat, tmp_path)
    player = Player(model, playing)
    player.play(make_order(playing, make_groups(8), quota=1))
    with (tmp_path / "others").open("wb") as file:
        player.close()
        file.flush()
    assert (tmp_path / "others").read_bytes() == b""


def test_what_is_rewarded_is_not_rewarded_again(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = make_playing(chat, tmp_path)
    player = Player(model, playing)
    finished = player.play(make_order(playing, make_groups(2))).finished
    for group in finished:
        for trace in group.finished.values():
            trace.info["reward"] = 0.375
    again = player.play(make_order(playing, finished)).finished
    player.close()
    assert [trace.info["reward"] for group in again for trace in group.finished.values()] == [0.375] * 8


class Unrestorable(BeginEnv):
    def restore(self, state: bytes) -> None:
        raise ValueError("a state of another version")


def test_what_cannot_be_restored_costs_its_trace(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    told, rest = taken_up(model, long_playing(chat, tmp_path, make_env=lambda _: Unrestorable()))
    begun = {(g.number, k) for g in told for k, record in g.paused.items() if record["episode"]["begun"]}
    broken = {(g.number, k) for g in rest for k, t in g.finished.items() if t.info.get("dropped") == "env_raised"}
    assert broken == begun != set()


class Unreachable(BeginEnv):
    @property
    def resumable(self) -> Any:  # type: ignore[override]
        raise ConnectionError("the service is gone")


def test_an_environment_that_does_not_say_how_to_pause_is_played_on(
    model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    playing = long_playing(chat, tmp_path, make_env=lambda _: Unreachable())
    player = Player(model, playing)
    first = player.play(make_order(playing, make_groups(8), quota=1))
    assert first.counts["unpausable"] > 0
    rest = player.play(make_order(playing, [], quota=8))
    player.close()
    assert len(first.finished) + len(rest.finished) == 8


class Slow(BeginEnv):
    async def step(self, message: Message) -> Observation:
        await asyncio.sleep(0.15)
        return await super().step(message)


def test_waiting_for_environments_is_told_apart(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path, make_env=lambda _: Slow())
    player = Player(model, playing)
    played = player.play(make_order(playing, make_groups(2)))
    player.close()
    waited = sum(span.end - span.start for span in played.spans if span.what == "environments")
    assert waited > 0.2
    starts = [span.start for span in played.spans if span.what != "judge"]
    assert starts == sorted(starts)


def test_no_limit_passes_while_the_process_trains(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path, make_env=lambda _: Slow(), env_seconds=0.6)
    player = Player(model, playing)
    player.play(make_order(playing, make_groups(8), quota=1))
    time.sleep(1.0)
    rest = player.play(make_order(playing, [], quota=8))
    player.close()
    assert not [trace for group in rest.finished for trace in group.finished.values() if trace.info.get("trouble")]


class SlowToClose(BeginEnv):
    """One after the other takes longer, once ``slow``."""

    opened = closing = 0
    slow = False

    async def reset(self, task: Task, seed: int) -> Observation:
        SlowToClose.opened += 1
        return await super().reset(task, seed)

    async def close(self) -> None:
        SlowToClose.opened -= 1
        if SlowToClose.slow:
            SlowToClose.closing += 1
            await asyncio.sleep(0.01 * SlowToClose.closing)
            SlowToClose.closing -= 1


def test_closing_waits_for_every_environment(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path, make_env=lambda _: SlowToClose())
    player = Player(model, playing)
    player.play(make_order(playing, make_groups(8), quota=1))
    assert SlowToClose.opened > 2
    SlowToClose.slow = True
    player.close()
    assert (SlowToClose.opened, SlowToClose.closing) == (0, 0)


class Holding(BeginEnv):
    """Waits without awaiting: no other task could stop it."""

    async def step(self, message: Message) -> Observation:
        time.sleep(30)
        return await super().step(message)


class HoldingSnapshot(BeginEnv):
    def snapshot(self) -> bytes:
        time.sleep(30)
        return super().snapshot()


def test_who_never_awaits_is_interrupted(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = make_playing(chat, tmp_path, make_env=lambda _: Holding(), max_tokens=60, env_seconds=0.05)
    began = time.monotonic()
    traces = [trace for group in play_groups(model, playing) for trace in group]
    assert time.monotonic() - began < 20
    assert {trace.info["dropped"] for trace in traces} == {"env_timed_out"}
    assert "without awaiting" in traces[0].info["error"]


def test_snapshots_that_take_too_long_are_given_up(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    """One by one, and in all."""
    playing = long_playing(chat, tmp_path, make_env=lambda _: HoldingSnapshot(), env_seconds=0.05)
    player = Player(model, playing)
    began = time.monotonic()
    played = player.play(make_order(playing, make_groups(8), quota=1))
    assert time.monotonic() - began < 20
    player.close()
    assert played.counts["unpausable"] > 1
    assert played.counts["paused"] == 0


class Looking(BeginEnv):
    """Looks at what is on the disk while others play."""

    seen = 0
    folder: Path

    async def step(self, message: Message) -> Observation:
        path = Looking.folder / arrivals(1, 0)
        Looking.seen = max(Looking.seen, len(path.read_text().splitlines()))
        return await super().step(message)


def test_what_finishes_is_on_the_disk_while_others_play(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    Looking.folder = tmp_path
    playing = long_playing(chat, tmp_path, make_env=lambda _: Looking())
    player = Player(model, playing)
    player.play(make_order(playing, make_groups(8)))
    player.close()
    assert 4 < Looking.seen < 8 * playing.rollouts_per_prompt


class AtWork(Slow):
    """Takes so long in later processes that a step ends meanwhile."""

    seconds = 0.0

    async def step(self, message: Message) -> Observation:
        await asyncio.sleep(AtWork.seconds)
        return await BeginEnv.step(self, message)


def test_what_cannot_pause_again_is_told_as_it_was(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    """An episode taken up from an earlier process, at work when this one's step ends, is not forgotten."""
    playing = long_playing(chat, tmp_path, make_env=lambda _: AtWork())
    AtWork.seconds = 0.0
    killed, after = Player(model, playing), Player(model, playing)
    told = killed.play(make_order(playing, make_groups(8), quota=2)).unfinished
    killed.close()
    again = [Group.from_json(json.loads(json.dumps(group.to_json()))) for group in told]
    paused = {(group.number, k): record for group in again for k, record in group.paused.items()}
    AtWork.seconds = 0.3
    played = after.play(make_order(playing, again, quota=1))
    after.close()
    left = {(group.number, k): record for group in played.unfinished for k, record in group.paused.items()}
    at_work = {place for place, record in left.items() if record == paused.get(place)}
    assert played.counts["unpausable"] >= len(at_work) > 0
    finished = {(group.number, k) for group in (*played.finished, *played.unfinished) for k in group.finished}
    assert paused.keys() <= left.keys() | finished


class Fixed:
    """A judge that likes every reply as much."""

    async def rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        return [0.25] * len(replies)


@asynccontextmanager
async def fixed_judge(_: Engine) -> AsyncIterator[Fixed]:
    yield Fixed()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_judged_reward_counts_the_score_by_its_share(
    share: float, model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    playing = make_playing(
        chat, tmp_path, budgets={"begin/kind-1": 1}, truncation_penalty=0.125, judged=frozenset({"begin"}),
        verified_share=share, make_judge=fixed_judge,
    )  # fmt: skip
    traces = [trace for group in play_groups(model, playing) for trace in group]
    assert {trace.stop_reason for trace in traces} == {"done", "token_budget"}
    for trace in traces:
        assert trace.score is not None
        judged = (1 - share) * 0.25 + share * trace.score.total
        assert trace.info["reward"] == pytest.approx(judged if trace.stop_reason == "done" else -0.125)
        assert "dropped" not in trace.info


class Unsure(Fixed):
    """Gives the first of a group no number."""

    async def rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        return [math.nan, *(await super().rewards(task, replies[1:]))]


@asynccontextmanager
async def unsure_judge(_: Engine) -> AsyncIterator[Unsure]:
    yield Unsure()


def test_a_reward_that_is_no_number_is_no_reward(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = make_playing(chat, tmp_path, max_tokens=60, judged=frozenset({"begin"}), make_judge=unsure_judge)
    for group in play_groups(model, playing):
        done = [trace.info for trace in group if trace.stop_reason == "done"]
        assert [info.get("dropped") for info in done] == ["no_reward", *[None] * (len(done) - 1)]
        assert [info.get("reward") for info in done] == [None, *[0.25] * (len(done) - 1)]


def test_environments_that_break_are_not_judged(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = make_playing(
        chat, tmp_path, make_env=lambda _: Holding(), max_tokens=60, env_seconds=0.02, judged=frozenset({"begin"}),
        make_judge=fixed_judge,
    )  # fmt: skip
    infos = [trace.info for group in play_groups(model, playing) for trace in group]
    assert {info.get("dropped") for info in infos} == {"env_timed_out"}
    assert not any("reward" in info for info in infos)


class Undecided(Fixed):
    """Takes so long over some that a step ends meanwhile."""

    async def rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        await asyncio.sleep(0.5 if task.kind == "kind-1" else 0.0)
        return await super().rewards(task, replies)


@asynccontextmanager
async def slow_judge(_: Engine) -> AsyncIterator[Undecided]:
    yield Undecided()


def test_a_group_that_waits_for_its_judge_has_no_reward_yet(
    model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    """Taken up by another process, it is rated there, and not paid by the score that the judge stands in for."""
    playing = make_playing(chat, tmp_path, judged=frozenset({"begin"}), make_judge=slow_judge)
    told, rated = taken_up(model, playing, quota=3)
    waiting = [group for group in told if len(group.finished) == playing.rollouts_per_prompt]
    assert waiting
    assert not any("reward" in t.info for g in waiting for t in g.finished.values() if t.stop_reason == "done")
    assert all(t.info["reward"] == 0.25 for g in rated for t in g.finished.values() if t.stop_reason == "done")


def test_a_full_disk_ends_the_stage(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    player = Player(model, make_playing(chat, tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
        with pytest.raises(OSError, match=r"no room for a line|File too large"):
            player.play(make_order(make_playing(chat, tmp_path), make_groups(4)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    player.close()
    assert [row["trace"]["id"] for row in jsonl.read(tmp_path / arrivals(1, 0))], "what fitted is whole"


def test_after_a_full_disk_nothing_is_written_and_all_is_whole(
    model: Transformer, chat: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where room comes back at once: a torn line in the middle would stop every later start."""
    playing = long_playing(chat, tmp_path)
    written = os.write
    num_lines = 0

    def short(handle: int, line: bytes) -> int:
        nonlocal num_lines
        if not line.startswith(b'{"group"'):
            return written(handle, line)
        num_lines += 1
        return written(handle, line[: len(line) // 2] if num_lines == 3 else line)

    monkeypatch.setattr(os, "write", short)
    player = Player(model, playing)
    with pytest.raises(OSError, match="no room for a line"):
        player.play(make_order(playing, make_groups(8)))
    player.close()
    assert num_lines - 1 == len(list(jsonl.read(tmp_path / arrivals(1, 0))))
    assert num_lines < 0.75 * 8 * playing.rollouts_per_prompt, "the other groups are not played to their end"
