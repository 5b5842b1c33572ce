"""The controller of rollouts: who plays what, what stands still, and which groups a step learns from (K2 §3.3)."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from openk2.schema import Task
from openk2.train.config import RLConfig
from openk2.train.rl.ledger import Ledger
from openk2.train.rl.players import Players, TrainersProcesses
from openk2.train.rl.rollout import Group, Order, Played, Playing
from openk2.train.trainer import Trainer


class Controller:
    """Keeps ``config.in_flight`` prompts going, and gives each step those that are finished.

    Steps that were begun before the process was killed get the very groups they had. Use within the trainer's context, and
    ``close`` it.
    """

    def __init__(
        self,
        trainer: Trainer,
        playing: Playing,
        config: RLConfig,
        identity: Mapping[str, object],
        *,
        seed: int,
        say: Callable[[str], None],
        players: Players | None = None,
    ) -> None:
        """``players``: by default the trainer's own processes."""
        self.told: dict[str, float] = {}
        """Of the step's playing: seconds, tokens, and counts of what was paused, resumed and dropped."""
        self._trainer, self._playing, self._config, self._say = trainer, playing, config, say
        self._players = players or TrainersProcesses(trainer)
        self._seed_of_stage = seed
        self._ledger = Ledger(playing.folder, identity, say=say)
        self._ready: list[Group] = []
        self._standing: dict[int, Group] = {}
        self._done_again: dict[int, Sequence[Group]] = {}  # what the steps drew that take their batch from the ledger
        self._recovered: list[Group] | None = None  # what the last process left

    def num_wanted(self, step: int) -> int:
        """How many prompts to begin at a step, so that all are in flight; one that is done again begins what it did."""
        if self._ledger.has_batch(step):
            return self._config.in_flight if step == 1 else self._config.prompts_per_step
        if self._recovered is None:
            return self._config.in_flight - len(self._ledger.recover(step - 1, self._done_again))
        return self._config.in_flight - len(self._ready) - len(self._standing)

    def groups(self, step: int, tasks: Sequence[Task], temperature: float) -> list[Group]:
        """What ``step`` learns from. ``tasks`` begin now; sampling is under the trainer's present weights."""
        first = (step - 1) * self._config.in_flight
        new = [Group(number, task, self._seed(number)) for number, task in enumerate(tasks, start=first)]
        self.told = {}
        known = self._ledger.batch(step)
        if known is not None:
            self._done_again[step] = new
            return known
        if self._recovered is None:
            self._ledger.forget_after(step)
            new = self._recovered = self._ledger.recover(step - 1, self._done_again | {step: new})
            self._say_recovered(step)
        batch = self._play(step, new, temperature)
        self._ledger.write_batch(step, batch)
        self._ledger.write_unfinished(step, [*self._ready, *self._standing.values()])
        if step % self._config.checkpoint_every == 0:
            # Those since the last checkpoint are needed, should the process end before this one.
            self._ledger.forget(step - max(self._config.keep_rollouts, self._config.checkpoint_every))
        return batch

    def close(self) -> None:
        """Let go of what stands still; on the disk it stays."""
        self._players.close()

    def _play(self, step: int, new: Sequence[Group], temperature: float) -> list[Group]:
        began = time.perf_counter()
        counts: Counter[str] = Counter()
        num_tokens = 0
        while new or len(self._ready) < self._config.prompts_per_step:
            orders = self._orders(step, new, temperature)
            played = self._players.play(orders)
            new = ()
            num_tokens += sum(each.num_sampled_tokens for each in played)
            for each in played:
                counts += each.counts
            self._trainer.timeline.add(span for each in played for span in each.spans)
            self._take(played)
        counts["in_flight"] = len(self._ready) + len(self._standing) - self._config.prompts_per_step
        self.told = {name: float(count) for name, count in sorted(counts.items())}
        self.told |= {"rollout_seconds": time.perf_counter() - began, "sampled_tokens": float(num_tokens)}
        batch, self._ready = (
            self._ready[: self._config.prompts_per_step],
            self._ready[self._config.prompts_per_step :],
        )
        return batch

    def _orders(self, step: int, new: Sequence[Group], temperature: float) -> list[Order]:
        """An order for each player: groups stay where they began; what is missing is finished in shares as equal as they allow."""
        processes = self._players.num
        held = Counter(group.number % processes for group in (*new, *self._standing.values()))
        missing, quotas = max(0, self._config.prompts_per_step - len(self._ready)), [0] * processes
        while missing and (able := [process for process in range(processes) if quotas[process] < held[process]]):
            for process in able[:missing]:
                quotas[process] += 1
            missing -= min(missing, len(able))
        if missing:
            raise RuntimeError(f"step {step} lacks {missing} groups, and none is in flight")
        return [
            Order(
                self._playing,
                process,
                self._trainer.step,
                step - 1 - self._config.max_staleness,
                temperature,
                [group for group in new if group.number % processes == process],
                quotas[process],
            )
            for process in range(processes)
        ]

    def _take(self, played: Sequence[Played]) -> None:
        finished = [group for each in played for group in each.finished]
        self._ready += sorted(finished, key=lambda group: group.number)
        self._standing = {group.number: group for each in played for group in each.unfinished}

    def _seed(self, number: int) -> int:
        """Of a group's environments."""
        return int.from_bytes(hashlib.sha256(f"{self._seed_of_stage}:{number}".encode()).digest()[:6], "big")

    def _say_recovered(self, step: int) -> None:
        finished = sum(len(group.finished) for group in self._recovered or ())
        paused = sum(len(group.paused) for group in self._recovered or ())
        if finished or paused:
            self._say(f"rl: step {step} goes on with {finished} finished rollouts and {paused} paused ones")
