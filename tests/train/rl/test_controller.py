"""The controller: who has to finish how much, what is in flight, and what a killed process left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from openk2.jobs import jsonl
from openk2.optim.config import OptimConfig
from openk2.schema import Task, Trace
from openk2.train.config import RLConfig
from openk2.train.rl.controller import Controller
from openk2.train.rl.rollout import Order, Played, Player, Playing
from openk2.train.timeline import Timeline
from openk2.train.trainer import Trainer
from tests.train.episodes import BeginEnv, make_agent, make_chat, make_playing


class Several:
    """Players side by side, all in this process. ``orders`` are what they were asked, by round."""

    def __init__(self, playing: Playing, num: int) -> None:
        model, _ = make_agent(playing.chat)
        self._players = [Player(model, playing) for _ in range(num)]
        self.orders: list[Sequence[Order]] = []

    @property
    def num(self) -> int:
        return len(self._players)

    def play(self, orders: Sequence[Order]) -> list[Played]:
        self.orders.append(orders)
        return [player.play(order) for player, order in zip(self._players, orders, strict=True)]

    def close(self) -> None:
        for player in self._players:
            player.close()


def controlled(folder: Path, num_players: int, step: int = 0, **settings: Any) -> tuple[Controller, Several, Any]:
    """A controller, its players, and the trainer's step to count up."""
    playing = make_playing(make_chat(), folder / "rollouts")
    players = Several(playing, num_players)
    config = RLConfig(
        steps=9, micro_batch_rows=8, row_length=64, rollouts_per_prompt=4, families={"begin": 1.0},
        optim=OptimConfig(lr=0.01), **({"prompts_per_step": 3} | settings),
    )  # fmt: skip
    trainer = SimpleNamespace(step=step, timeline=Timeline())
    controller = Controller(
        cast(Trainer, trainer), playing, config, {"policy": "a"}, seed=0, say=lambda _: None, players=players
    )
    return controller, players, trainer


def some(count: int, first: int = 0) -> list[Task]:
    tasks = BeginEnv().tasks("rl")
    return [tasks[(first + i) % len(tasks)] for i in range(count)]


@pytest.mark.parametrize("num_players", [1, 2, 4])
def test_a_step_takes_one_round_and_nobody_owes_what_he_has_not(tmp_path: Path, num_players: int) -> None:
    controller, players, trainer = controlled(tmp_path, num_players)
    for step in range(1, 6):
        tasks = some(controller.num_wanted(step), 3 * step)
        assert len(controller.groups(step, tasks, 1.0)) == 3
        assert controller.told.get("paused", 0) == 0, "nothing is in flight beyond the step"
        trainer.step = step
    controller.close()
    assert len(players.orders) == 5
    for orders in players.orders:
        assert sum(order.quota for order in orders) == 3
        assert all(order.quota <= len(order.groups) for order in orders)


def test_as_many_are_in_flight_as_should_be_also_after_their_ledger_is_lost(tmp_path: Path) -> None:
    flight = {"prompts_in_flight": 8}
    controller, _, trainer = controlled(tmp_path, 2, **flight)
    assert controller.num_wanted(1) == 8
    controller.groups(1, some(8), 1.0)
    assert controller.told["in_flight"] == 5
    assert controller.num_wanted(2) == 3
    controller.close()
    controller, _, trainer = controlled(tmp_path / "elsewhere", 2, step=1, **flight)
    assert controller.num_wanted(2) == 8
    numbers = {group.number for group in controller.groups(2, some(8), 1.0)}
    assert controller.told["in_flight"] == 5
    trainer.step = 2
    assert controller.num_wanted(3) == 3
    assert not numbers & {group.number for group in controller.groups(3, some(3), 1.0)}
    controller.close()


def test_a_step_that_was_killed_goes_on_with_what_arrived_in_it(tmp_path: Path) -> None:
    def killed(*_: object) -> None:
        raise ConnectionResetError

    controller, _, trainer = controlled(tmp_path, 1)
    controller.groups(1, some(3), 1.0)
    trainer.step = 1
    controller._ledger.write_batch = killed  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError):
        controller.groups(2, some(3, 3), 1.0)
    controller.close()
    arrived = list(jsonl.read(tmp_path / "rollouts" / "arrived-000002-0.jsonl"))
    assert {row["group"] for row in arrived} == {3, 4, 5}
    again, players, _ = controlled(tmp_path, 1, step=1)
    assert again.num_wanted(2) == 3
    again.groups(2, some(3, 3), 1.0)
    again.close()
    given = [group for order in players.orders[0] for group in order.groups]
    assert sorted(group.number for group in given) == [3, 4, 5], "each is begun once"
    finished = {group.number: group.finished for group in given}
    for row in arrived:
        assert finished[row["group"]][row["rollout"]].token_ids == Trace.from_json(row["trace"]).token_ids


def test_a_step_that_was_killed_before_it_wrote_what_stands_still_keeps_what_it_began(tmp_path: Path) -> None:
    def killed(*_: object) -> None:
        raise ConnectionResetError

    flight = {"prompts_in_flight": 6}
    controller, _, trainer = controlled(tmp_path, 1, **flight)
    controller.groups(1, some(6), 1.0)
    trainer.step = 1
    controller._ledger.write_unfinished = killed  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError):
        controller.groups(2, some(3, 6), 1.0)
    controller.close()
    again, players, trainer = controlled(tmp_path, 1, step=1, **flight)
    learnt = {group.number for group in again.groups(2, some(again.num_wanted(2), 6), 1.0)}
    assert not players.orders, "the step's batch is on the disk"
    trainer.step = 2
    again.groups(3, some(again.num_wanted(3), 9), 1.0)
    again.close()
    first = {group.number for group in again._ledger.batch(1) or ()}
    begun = {0, 1, 2, 3, 4, 5, 6, 7, 8}  # six at step 1, three at step 2; those of step 3 have numbers from 12 on
    ((order,),) = players.orders
    assert {group.number for group in order.groups if group.number < 12} == begun - first - learnt


def test_orders_say_how_old_a_rollout_may_be(tmp_path: Path) -> None:
    controller, players, _ = controlled(tmp_path, 1, step=7, max_staleness=3)
    controller.groups(8, some(3), 1.0)
    controller.close()
    assert [(order.weight_version, order.oldest_version) for order in players.orders[0]] == [(7, 4)]


def test_batches_since_the_last_checkpoint_stay(tmp_path: Path) -> None:
    controller, _, trainer = controlled(tmp_path, 1, keep_rollouts=1, checkpoint_every=3)
    kept = []
    for step in range(1, 8):
        controller.groups(step, some(3, step), 1.0)
        trainer.step = step
        kept.append(sorted(int(path.stem[5:]) for path in (tmp_path / "rollouts").glob("step-*")))
    controller.close()
    assert kept[2] == [1, 2, 3]
    assert kept[5] == [4, 5, 6]
    assert kept[6] == [4, 5, 6, 7]
