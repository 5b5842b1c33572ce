"""Players in Ray actors: the trainer's weights reach them, and no death of one loses a group."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.engine.weights.config import WeightsConfig
from openk2.jobs import jsonl
from openk2.model.transformer import Transformer
from openk2.schema import Message, Observation, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.train.metrics import read_metrics
from openk2.train.rl import actors
from openk2.train.rl.actors import ActorsConfig, LostPlayersError, RayPlayers
from openk2.train.rl.reinforce import reinforce
from openk2.train.rl.rollout import Group, Order, Played, Player, Playing, arrivals
from openk2.train.step import Compute
from tests.train.episodes import STOPS, BeginEnv, begin_env, make_agent, make_chat, make_groups, make_order
from tests.train.rl.test_reinforce import config, prompts
from tests.train.rl.test_rollout import long_playing, tokens

ray = pytest.importorskip("ray", reason="pip install 'openk2[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SHARED = WeightsConfig(via="shared", time_limit=10.0)
GLOO = WeightsConfig(via="gloo", time_limit=10.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return make_chat()


@pytest.fixture
def model(chat: ChatFormat) -> Transformer:
    return make_agent(chat)[0]


def orders(playing: Playing, groups: Sequence[Group], num: int = 2, **changes: Any) -> list[Order]:
    """An order for each player, of the groups whose number is its own."""
    shares = [[group for group in groups if group.number % num == process] for process in range(num)]
    return [
        make_order(playing, share, **({"process": process, "quota": len(share)} | changes))
        for process, share in enumerate(shares)
    ]


def finished(played: Sequence[Played]) -> list[Group]:
    return [group for each in played for group in each.finished]


def sampled(groups: Sequence[Group], version: int) -> list[Trace]:
    """Traces with every token drawn under these weights."""
    traces = [trace for group in groups for trace in group.finished.values()]
    of = [{s.weight_version for s in trace.segments if s.source == "sampled"} for trace in traces]
    return [trace for trace, versions in zip(traces, of, strict=True) if versions == {version}]


def furthest(model: Transformer, chat: ChatFormat, traces: Sequence[Trace]) -> float:
    """Largest difference between a drawn token's log-probability and the trainer's own."""
    engine = Engine(model, chat, EngineConfig(max_rows=4, max_context=128), stop_ids=STOPS)
    found = 0.0
    for trace, scored in zip(traces, engine.score([trace.token_ids for trace in traces]), strict=True):
        drawn = [p for s in trace.segments for p in (s.logprobs or [None] * len(s.token_ids))]
        pairs = zip(drawn[1:], scored, strict=True)
        found = max([found, *(abs(mine - theirs) for mine, theirs in pairs if mine is not None)])
    engine.close()
    return found


@pytest.mark.parametrize("weights", [SHARED, GLOO], ids=["shared", "gloo"])
def test_actors_play_as_this_process_does_and_get_every_version(
    cluster: None, model: Transformer, chat: ChatFormat, tmp_path: Path, weights: WeightsConfig
) -> None:
    player = Player(model, long_playing(chat, tmp_path / "here"))
    expected = tokens(player.play(make_order(long_playing(chat, tmp_path / "here"), make_groups(4))).finished)
    player.close()
    playing = long_playing(chat, tmp_path / "there")
    players = RayPlayers(model, playing, ActorsConfig(num=2, cpus=0.5, weights=weights))
    try:
        played = players.play(orders(playing, make_groups(4)))
        assert tokens(finished(played)) == expected
        assert {span.worker for each in played for span in each.spans if span.what == "rollout"} == {1, 2}
        before, now = {name: tensor.clone() for name, tensor in model.state_dict().items()}, time.perf_counter()
        assert all(now - 60 < span.start <= span.end <= now for each in played for span in each.spans)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        played = players.play(orders(playing, make_groups(4, first=4, seed=1), weight_version=1))
        traces = sampled(finished(played), 1)
        assert len(traces) == 16
        assert furthest(model, chat, traces) < 1e-4
        model.load_state_dict(before)
        assert furthest(model, chat, traces) > 1e-2, "the old weights tell otherwise"
    finally:
        players.close()


class Slow(BeginEnv):
    """Tells where it runs."""

    folder: Path

    async def step(self, message: Message) -> Observation:
        await asyncio.sleep(0.3)
        return await super().step(message)

    async def reset(self, task: Task, seed: int) -> Observation:
        (self.folder / f"at-{os.getpid()}").touch()
        return await super().reset(task, seed)


def slow_env(_: str, folder: Path) -> Slow:
    env = Slow()
    env.folder = folder
    return env


class Deadly(BeginEnv):
    async def step(self, message: Message) -> Observation:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def deadly_env(_: str) -> Deadly:
    return Deadly()


def test_what_an_actor_had_goes_on_after_its_death(
    cluster: None, model: Transformer, chat: ChatFormat, tmp_path: Path
) -> None:
    player = Player(model, long_playing(chat, tmp_path / "here"))
    expected = tokens(player.play(make_order(long_playing(chat, tmp_path / "here"), make_groups(8))).finished)
    player.close()
    playing = long_playing(chat, tmp_path / "there", make_env=partial(slow_env, folder=tmp_path))
    arrived = tmp_path / "there" / arrivals(1, 1)

    def kill() -> None:
        """Player 1, once something of it is finished: the process that holds its file."""
        while not arrived.exists() or not any(jsonl.read(arrived)):
            time.sleep(0.01)
        for path in tmp_path.glob("at-*"):
            pid = int(path.name.removeprefix("at-"))
            if any(os.path.realpath(fd) == str(arrived) for fd in Path(f"/proc/{pid}/fd").iterdir()):
                os.kill(pid, signal.SIGKILL)

    players = RayPlayers(model, playing, ActorsConfig(num=2, cpus=0.5, weights=GLOO))
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        first = players.play(orders(playing, make_groups(8)))
        killer.join()
        counts = sum((each.counts for each in first), Counter())
        assert counts["lost_players"] == 1
        lost = [group for each in first for group in each.unfinished]
        kept = {trace.id for group in lost for trace in group.finished.values()}
        assert {group.number % 2 for group in lost} == {1}
        assert kept, "what was finished stays so"
        assert counts["started_again"] == 16 - len(kept)
        rest = players.play(orders(playing, [], quota=8))
    finally:
        players.close()
    groups = finished(first) + finished(rest)
    assert tokens(groups) == expected
    assert kept <= {trace.id for group in groups for trace in group.finished.values()}


def test_one_that_finds_no_room_again_leaves_its_groups_to_the_others(
    cluster: None, model: Transformer, chat: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playing = long_playing(chat, tmp_path)
    players = RayPlayers(model, playing, ActorsConfig(num=2, cpus=1.0, weights=GLOO))
    try:
        first = players.play(orders(playing, make_groups(8), quota=1))
        standing = [group.number for each in first for group in each.unfinished]
        assert {number % 2 for number in standing} == {0, 1}
        ray.kill(players._slots[0].actor)
        monkeypatch.setattr(actors, "READY_S", 5.0)
        taken = ray.remote(num_cpus=1)(threading.Event).remote()
        rest = players.play(orders(playing, [], weight_version=1, quota=8))
        while len(finished(rest)) < len(standing):
            assert len(rest) < 8
            rest += players.play(orders(playing, [], weight_version=1, quota=8))
        ray.kill(taken)
        assert sorted(group.number for group in finished(rest)) == sorted(standing)
    finally:
        players.close()


def test_when_all_die_one_line_says_so(cluster: None, model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    playing = long_playing(chat, tmp_path, make_env=deadly_env)
    players = RayPlayers(model, playing, ActorsConfig(num=1, weights=GLOO))
    try:
        for groups in (make_groups(2), []):
            assert players.play(orders(playing, groups, num=1, quota=2))[0].counts["lost_players"] == 1
        with pytest.raises(LostPlayersError, match="died 3 times without finishing a group") as raised:
            players.play(orders(playing, [], num=1, quota=2))
        assert len(str(raised.value).splitlines()) == 1
    finally:
        players.close()


def test_a_cluster_without_room_is_told(
    cluster: None, model: Transformer, chat: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors, "READY_S", 2.0)
    with pytest.raises(LostPlayersError, match=r"none of 1 rollout actors is left \(not up within 2 s"):
        RayPlayers(model, long_playing(chat, tmp_path), ActorsConfig(num=1, cpus=64))


def test_a_stage_learns_from_what_actors_play(cluster: None, chat: ChatFormat, tmp_path: Path) -> None:
    model, engine = make_agent(chat)

    def make_players(model: Transformer, playing: Playing) -> RayPlayers:
        return RayPlayers(model, playing, ActorsConfig(num=2, cpus=0.5, weights=SHARED))

    reinforce(
        tmp_path, model, chat, engine.config, prompts(), begin_env, None, config("token", 20),
        Compute(torch.device("cpu")), stop_ids=STOPS, say=lambda _: None, make_players=make_players,
    )  # fmt: skip
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert sum(row["reward"] for row in rows[-4:]) > sum(row["reward"] for row in rows[:4]) + 1.0
    assert all(abs(row["log_ratio"]) < 1e-4 for row in rows), "each step is on the weights it updates"


def test_without_a_cluster_it_says_so(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ValueError, match=r"no Ray cluster is connected: call ray\.init first"):
        RayPlayers(model, long_playing(chat, tmp_path), ActorsConfig(num=1))
