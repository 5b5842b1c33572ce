"""Rollouts: groups of episodes of one prompt, played in one process over many iterations (K2 §3.3, partial rollout).

An iteration ends when enough groups are finished. What is unfinished then stands still, environments and half-drawn turns included,
and goes on under the next weights; so nobody waits for the longest. Each pause is also told as plain JSON, for a process that comes
after this one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from openk2.agent import Budget, Episode
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.gym.critic.judge import GroupJudge, JudgeFailedError
from openk2.jobs import jsonl
from openk2.jobs.hold import HoldLimit
from openk2.model.transformer import Transformer
from openk2.schema import JSON, Env, Sampling, Task, Trace
from openk2.text.chat import ChatFormat
from openk2.train.rl.hand import Hand
from openk2.train.rl.standstill import StandstillLoop
from openk2.train.timeline import Span, What

log = logging.getLogger(__name__)

Stretch = tuple[float, float]
"""Of time, by ``time.perf_counter``."""
MakeJudge = Callable[[Engine], AbstractAsyncContextManager[GroupJudge]]


@dataclass(frozen=True, slots=True)
class Playing:
    """How prompts are played: everything but the model and the prompts, so that any process can.

    ``budgets`` are tokens an episode may sample, by ``family/kind`` or family; ``max_tokens`` is that of all others. An episode that a
    budget cuts earns ``-truncation_penalty`` (K2 §3.2, budget control). ``judged`` families have their groups rated by what
    ``make_judge`` makes; ``verified_share`` of a reply's reward there is its environment's score all the same.
    """

    chat: ChatFormat
    engine: EngineConfig
    make_env: Callable[[str], Env]
    folder: Path
    rollouts_per_prompt: int
    max_turns: int
    max_tokens: int
    context: int
    budgets: Mapping[str, int] = field(default_factory=dict)
    truncation_penalty: float = 0.0
    env_seconds: float = 60.0
    stop_ids: frozenset[int] | None = None
    judged: frozenset[str] = frozenset()
    verified_share: float = 0.0
    make_judge: MakeJudge | None = None

    def budget(self, task: Task) -> Budget:
        """Of an episode of a task."""
        of_family = self.budgets.get(task.family, self.max_tokens)
        tokens = self.budgets.get(f"{task.family}/{task.kind}", of_family)
        return Budget(self.max_turns, tokens, self.context, self.env_seconds)


@dataclass(slots=True)
class Group:
    """The K rollouts of a prompt, by number: ``finished`` ones, and those that were ``paused`` when their process ended.

    All share the environment's ``seed``, so that they differ by what the policy does alone.
    """

    number: int
    task: Task
    seed: int
    finished: dict[int, Trace] = field(default_factory=dict)
    paused: dict[int, JSON] = field(default_factory=dict)

    def rewards(self) -> list[float]:
        """Of the traces that have one and were not dropped."""
        traces = [trace for _, trace in sorted(self.finished.items())]
        return [trace.info["reward"] for trace in traces if "dropped" not in trace.info]

    def to_json(self) -> JSON:
        """Plain JSON."""
        finished = {str(k): trace.to_json() for k, trace in sorted(self.finished.items())}
        paused = {str(k): record for k, record in sorted(self.paused.items())}
        told = {"number": self.number, "task": self.task.to_json(), "seed": self.seed}
        return told | {"finished": finished, "paused": paused}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Group:
        """Read what ``to_json`` wrote."""
        finished = {int(k): Trace.from_json(trace) for k, trace in data["finished"].items()}
        paused = {int(k): record for k, record in data["paused"].items()}
        return cls(data["number"], Task.from_json(data["task"]), data["seed"], finished, paused)


@dataclass(frozen=True, slots=True)
class Order:
    """An iteration's work for one process. It ends with ``quota`` groups finished, old ones included.

    What was begun by weights older than ``oldest_version`` is given up: it could not be learnt from any more.
    """

    playing: Playing
    process: int
    weight_version: int
    oldest_version: int
    temperature: float
    groups: Sequence[Group]
    quota: int


@dataclass(slots=True)
class Played:
    """What an iteration gave: groups that are finished, the others as they can be taken up, and where the time went."""

    finished: list[Group]
    unfinished: list[Group]
    spans: list[Span]
    num_sampled_tokens: int
    counts: Counter[str]


def play(model: Transformer, orders: Sequence[Order]) -> list[Played]:
    """Carry out the order of this process; its player is kept as long as the model."""
    (order,) = orders
    player = _PLAYERS.get(model)
    if player is None:
        player = _PLAYERS[model] = Player(model, order.playing)
    return [player.play(order)]


def stop_playing(model: Transformer, nothing: Sequence[None]) -> list[None]:
    """Let go of what stands still in this process."""
    player = _PLAYERS.pop(model, None)
    if player is not None:
        player.close()
    return list(nothing)


class Player:
    """Plays groups in this process. What is unfinished when ``play`` returns goes on in the next call."""

    def __init__(self, model: Transformer, playing: Playing) -> None:
        self._playing = playing
        self._engine = Engine(model, playing.chat, playing.engine, stop_ids=playing.stop_ids)
        self._judge: GroupJudge | None = None
        self._held = AsyncExitStack()
        self._loop = StandstillLoop()
        self._sampling = Sampling(max_tokens=playing.engine.max_context)
        self._groups: dict[int, Group] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._hands: dict[tuple[int, int], Hand] = {}
        self._counts: Counter[str] = Counter()
        self._judging: list[Stretch] = []
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._hold = HoldLimit(playing.env_seconds) if in_main_thread else None

    def play(self, order: Order) -> Played:
        """Play until ``order.quota`` groups are finished, or nothing is left. What finishes is written down at once."""
        began, sampled_before = time.perf_counter(), self._engine.num_sampled_tokens
        self._forget_arrivals(order)
        self._counts, self._judging = Counter(), []
        self._engine.update_weights(order.weight_version)
        self._sampling = replace(self._sampling, temperature=order.temperature)
        for hand in self._hands.values():  # now: what stood ready to go on goes on first
            hand.episode.sampling = self._sampling
        path = self._playing.folder / arrivals(order.weight_version + 1, order.process)
        with jsonl.Appender(path) as self._arrived:
            self._loop.run_until_complete(self._advance(order))
        done = {number: task for number, task in self._tasks.items() if task.done()}
        for number, task in done.items():
            del self._tasks[number]
            task.result()  # what is wrong with the engine or the disk ends the stage
        finished = [self._groups.pop(number) for number in done]
        until = time.monotonic() + self._playing.env_seconds
        unfinished = [self._as_it_stands(group, until) for group in self._groups.values()]
        self._engine.sleep()
        return Played(
            finished,
            unfinished,
            self._spans(order.process, began, time.perf_counter()),
            self._engine.num_sampled_tokens - sampled_before,
            self._counts,
        )

    def _forget_arrivals(self, order: Order) -> None:
        """Remove what it wrote down before the last step. The controller does so sooner, where it sees this disk."""
        for path in self._playing.folder.glob(arrivals("*", order.process)):
            if step_of(path) < order.weight_version:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """End all that stands still; environments are closed."""
        for task in self._tasks.values():
            task.cancel()
        self._loop.run_until_complete(self._end())
        self._engine.close()
        self._loop.close()

    async def _end(self) -> None:
        if self._tasks:
            # Not wait_for, which waits for those too that swallow their cancellation.
            ended, left = await asyncio.wait(self._tasks.values(), timeout=2 * self._playing.env_seconds)
            for task in ended:
                if not task.cancelled():
                    task.exception()  # the first one that failed has ended the stage
            if left:
                log.warning("%d groups of rollouts did not end when told to: their environments stay open", len(left))
        await self._held.aclose()

    async def _advance(self, order: Order) -> None:
        if self._judge is None and self._playing.make_judge is not None:
            self._judge = await self._held.enter_async_context(self._playing.make_judge(self._engine))
        for hand in list(self._hands.values()):
            if hand.oldest_version < order.oldest_version:
                hand.give_up()
        for group in order.groups:
            self._groups[group.number] = group
            self._tasks[group.number] = asyncio.create_task(self._group(group))
        while True:
            going = [task for task in self._tasks.values() if not task.done()]
            if len(self._tasks) - len(going) >= order.quota or not going or self._has_failed():
                break
            await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)

    def _has_failed(self) -> bool:
        """Whether something is wrong with the engine or the disk: nothing should be written after that."""
        return any(task.done() and task.exception() is not None for task in self._tasks.values())

    async def _group(self, group: Group) -> None:
        numbers = [k for k in range(self._playing.rollouts_per_prompt) if k not in group.finished]
        episodes = [asyncio.create_task(self._episode(group, k)) for k in numbers]
        try:
            await asyncio.gather(*episodes)
        except BaseException:
            for episode in episodes:
                if not episode.cancelling():  # twice would break off the closing of its environment
                    episode.cancel()
            await asyncio.gather(*episodes, return_exceptions=True)
            raise
        finally:
            for k in numbers:
                self._hands.pop((group.number, k), None)
        await self._reward(group)

    async def _episode(self, group: Group, k: int) -> None:
        playing, task = self._playing, group.task
        settings: dict[str, Any] = {
            "sampling": self._sampling, "budget": playing.budget(task), "chat": playing.chat, "hold": self._hold,
        }  # fmt: skip
        env, paused = playing.make_env(task.family), group.paused.pop(k, None)
        hand = Hand(self._engine, paused)
        if paused is None:
            hand.episode = Episode(hand, env, task, group.seed, **settings, rollout=k)
        else:
            hand.episode = Episode.resume(paused["episode"], hand, env, **settings)
            self._counts["resumed"] += 1
        self._hands[group.number, k] = hand
        trace = await hand.play()
        del self._hands[group.number, k]
        group.finished[k] = trace
        self._arrived.write({"group": group.number, "rollout": k, "trace": trace.to_json()})

    async def _reward(self, group: Group) -> None:
        """Note in each trace's ``info`` its ``reward``, or as ``dropped`` why it has none."""
        if all("reward" in trace.info or "dropped" in trace.info for trace in group.finished.values()):
            return  # it was finished before the process that played it ended
        judged = group.task.family in self._playing.judged
        rated: list[Trace] = []
        for _, trace in sorted(group.finished.items()):
            if judged and trace.stop_reason == "done":
                rated.append(trace)
            else:
                trace.info |= _verified(trace, self._playing.truncation_penalty)
        if not rated:
            return
        assert self._judge is not None, "judged families come with a judge"
        start = time.perf_counter()
        try:  # until it has answered they have no reward: who takes the group up elsewhere has it rated anew
            rewards = await self._judge.rewards(group.task, [reply_of(trace) for trace in rated])
        except JudgeFailedError as error:
            for trace in rated:
                trace.info |= {"dropped": f"judge_{error.reason}", "error": str(error)}
            return
        finally:
            self._judging.append((start, time.perf_counter()))
        for trace, liked in zip(rated, rewards, strict=True):
            reward = _mixed(liked, trace, self._playing.verified_share)
            trace.info |= {"reward": reward} if math.isfinite(reward) else {"dropped": "no_reward"}

    def _as_it_stands(self, group: Group, until: float) -> Group:
        """The group as another process can take it up. What cannot be told is played from the start there.

        After ``until`` no environment is asked any more: one that hangs should not hold up the training a hundred times.
        """
        finished, paused = dict(group.finished), dict[int, JSON]()
        for k in range(self._playing.rollouts_per_prompt):
            hand = self._hands.get((group.number, k))
            if hand is None:
                if k in group.paused:  # it was not its turn yet
                    paused[k] = group.paused[k]
                continue
            if hand.ended:  # just now, when nobody looked any more
                finished[k] = hand.episode.trace
                continue
            episode = hand.episode.pause() if time.monotonic() < until else None
            self._counts["paused" if episode is not None else "unpausable"] += 1
            if episode is not None:
                hand.told = {"episode": episode, "drawn": hand.drawn()}
            if hand.told is not None:
                paused[k] = hand.told
        return replace(group, finished=finished, paused=paused)

    def _spans(self, process: int, began: float, ended: float) -> list[Span]:
        """The time between, each moment once: waiting for environments, else judging where any was under way, else rollout."""
        judging = _united((max(began, start), end) for start, end in self._judging)
        spans, start = [], began
        for left, back in [*self._loop.take_waits(), (ended, ended)]:
            for what, since, until in _told_apart(start, left, judging):
                spans.append(Span(process, what, since, until))
            if back > left:
                spans.append(Span(process, "environments", left, back))
            start = back
        return spans


def _united(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same moments in stretches that do not overlap, in order."""
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _told_apart(start: float, end: float, judging: Sequence[Stretch]) -> Iterator[tuple[What, float, float]]:
    """Work from start to end in order, as judging where it was and rollout elsewhere."""
    for since, until in judging:
        since, until = max(start, since), min(end, until)
        if since < until:
            if start < since:
                yield "rollout", start, since
            yield "judge", since, until
            start = until
    if start < end:
        yield "rollout", start, end


_PLAYERS: WeakKeyDictionary[Transformer, Player] = WeakKeyDictionary()


def arrivals(step: int | Literal["*"], process: int | Literal["*"] = "*") -> str:
    """The name of the file in which a process writes down what finishes while it plays for a step."""
    return f"arrived-{step if step == '*' else format(step, '06d')}-{process}.jsonl"


def step_of(path: Path) -> int:
    """Of a file named ``arrived-STEP-…`` or ``step-STEP``."""
    return int(path.stem.split("-")[1])


def reply_of(trace: Trace) -> str:
    """What the policy said last."""
    said = [message.content for message in trace.messages if message.role == "assistant"]
    return said[-1] if said else ""


def _mixed(judged: float, trace: Trace, verified_share: float) -> float:
    """Of the critic's reward and the environment's, where that counts too."""
    assert trace.score is not None, "an episode that is done has a score"
    return (1 - verified_share) * judged + verified_share * trace.score.total


def _verified(trace: Trace, truncation_penalty: float) -> JSON:
    """The reward that the environment's score gives."""
    if trace.stop_reason == "env_error":
        return {"dropped": f"env_{trace.info['trouble']}"}
    if trace.stop_reason == "aborted":
        return {"dropped": "stale"}
    if trace.stop_reason != "done":
        return {"reward": -truncation_penalty}
    assert trace.score is not None, "an episode that is done has a score"
    return {"reward": trace.score.total}
