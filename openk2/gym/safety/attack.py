"""The red team: prompts against a target, from the bare strategies on by evolution, every attempt recorded (K2 §3.2, §4).

The record is the state: a run that was stopped takes its attempts from the file and goes on behind them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict, Field

from openk2.gym.safety.attackers import Attacker, Attempt, Prompt
from openk2.gym.safety.behaviours import Behaviour
from openk2.gym.safety.config import StrategyName
from openk2.gym.safety.judges import Judge, Verdict
from openk2.gym.safety.strategies import STRATEGIES, apply, plain_ask
from openk2.jobs import jsonl
from openk2.schema import ChatModel, Message, Sampling


class AttackConfig(BaseModel):
    """How hard a target is attacked. A behaviour costs one conversation for each strategy, then what evolution may spend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategies: tuple[StrategyName, ...] = Field(
        default=tuple(STRATEGIES), min_length=1, description="what the first generation tries, each alone"
    )
    population: int = Field(16, ge=1, description="prompts of each later generation")
    generations: int = Field(6, ge=0, description="later generations at most; none after a success")
    survivors: int = Field(4, ge=1, description="attempts that the first parent is drawn from: the nearest so far")
    seed: int = Field(0, description="draws parents, children and the target's samples")
    max_in_flight: int = Field(16, ge=1, description="conversations at once")
    call_s: float = Field(120.0, gt=0, description="seconds for one answer of target, attacker or judge")
    temperature: float = Field(1.0, ge=0, description="of the target's answers")
    max_tokens: int = Field(512, ge=1, description="of one answer of the target")


async def attack(
    behaviours: Sequence[Behaviour],
    target: ChatModel,
    attacker: Attacker,
    judge: Judge,
    config: AttackConfig,
    record: Path,
) -> list[Attempt]:
    """Attack each behaviour until a success or the end of its budget; all attempts, in order.

    A call that fails costs its attempt alone: the attempt has an ``error`` and no verdict. Raises ValueError for a record of
    another attack, and for two behaviours of one id.
    """
    known = _known(record, _header(behaviours, config))
    with jsonl.Appender(record) as appender:
        if not known.started:
            appender.write(known.header)
        run = _Run(target, attacker, judge, config, known.attempts, appender)
        done = await asyncio.gather(*(run.attack(behaviour) for behaviour in behaviours))
    return [attempt for attempts in done for attempt in attempts]


@dataclass
class _Known:
    """What a record holds already."""

    header: dict[str, object]
    started: bool = False
    attempts: dict[tuple[str, int], Attempt] = field(default_factory=dict)


class _Run:
    def __init__(
        self,
        target: ChatModel,
        attacker: Attacker,
        judge: Judge,
        config: AttackConfig,
        known: dict[tuple[str, int], Attempt],
        appender: jsonl.Appender,
    ) -> None:
        self._target, self._attacker, self._judge, self._config = target, attacker, judge, config
        self._known, self._appender = known, appender
        self._turns = asyncio.Semaphore(config.max_in_flight)

    async def attack(self, behaviour: Behaviour) -> list[Attempt]:
        """The bare strategies, then generation after generation from the nearest attempts."""
        config = self._config
        done = await self._generation(behaviour, [], 0, len(config.strategies))
        for generation in range(1, config.generations + 1):
            if any(attempt.succeeded for attempt in done) or not any(attempt.decided for attempt in done):
                break
            done += await self._generation(behaviour, done, generation, config.population)
        return done

    async def _generation(self, behaviour: Behaviour, done: list[Attempt], generation: int, size: int) -> list[Attempt]:
        numbers = range(len(done), len(done) + size)
        return list(await asyncio.gather(*(self._once(behaviour, done, generation, number) for number in numbers)))

    async def _once(self, behaviour: Behaviour, done: list[Attempt], generation: int, number: int) -> Attempt:
        """An attempt, from the record if it is there."""
        if (behaviour.id, number) in self._known:
            return self._known[behaviour.id, number]
        async with self._turns:
            attempt = await self._try(behaviour, done, generation, number)
        self._appender.write(asdict(attempt))
        return attempt

    async def _try(self, behaviour: Behaviour, done: list[Attempt], generation: int, number: int) -> Attempt:
        rng = Random(f"{self._config.seed}/{behaviour.id}/{number}")
        prompt, replies, verdict, error = Prompt((), ()), list[str](), None, ""
        try:
            prompt = await self._prompt(behaviour, done, number, rng)
            await self._converse(behaviour, prompt, replies, rng)
            verdict = await self._decide(behaviour, prompt, replies)
        except Exception as failure:  # noqa: BLE001 - a model may fail in any way; the attempt tells how
            error = f"{type(failure).__name__}: {failure}"[:500]
        return Attempt(behaviour.id, behaviour.category, number, generation, prompt, tuple(replies), verdict, error)

    async def _prompt(self, behaviour: Behaviour, done: list[Attempt], number: int, rng: Random) -> Prompt:
        if not done:
            name = self._config.strategies[number]
            return Prompt(apply((name,), plain_ask(behaviour, behaviour.protected[0].topic), rng).turns, (name,))
        decided = [attempt for attempt in done if attempt.decided]
        # Of equally near ones the simpler, which leave room to build on; the other parent is any, or all would soon be alike.
        ranked = sorted(decided, key=lambda tried: (-_nearness(tried), len(tried.prompt.strategies), tried.number))
        one, other = rng.choice(ranked[: self._config.survivors]), rng.choice(ranked)
        tried = {attempt.prompt.turns for attempt in done}
        async with asyncio.timeout(self._config.call_s):
            return await self._attacker.evolve(behaviour, (one, other), tried, rng)

    async def _converse(self, behaviour: Behaviour, prompt: Prompt, replies: list[str], rng: Random) -> None:
        """Say the turns one after the other; ``replies`` grows, so that a failure leaves those before it."""
        messages = [Message("system", behaviour.system())]
        for turn in prompt.turns:
            messages.append(Message("user", turn))
            sampling = Sampling(self._config.temperature, max_tokens=self._config.max_tokens, seed=rng.getrandbits(31))
            async with asyncio.timeout(self._config.call_s):
                reply = await self._target.complete(messages, [], sampling)
            messages.append(reply)
            replies.append(reply.content)

    async def _decide(self, behaviour: Behaviour, prompt: Prompt, replies: list[str]) -> Verdict:
        async with asyncio.timeout(self._config.call_s):
            return await self._judge.decide(behaviour, prompt.turns, replies)


def _nearness(attempt: Attempt) -> float:
    return attempt.verdict.nearness if attempt.verdict is not None else 0.0


def _header(behaviours: Sequence[Behaviour], config: AttackConfig) -> dict[str, object]:
    ids = [behaviour.id for behaviour in behaviours]
    if twice := {id for id in ids if ids.count(id) > 1}:
        raise ValueError(f"two behaviours are called {min(twice)!r}: an attack tells them apart by their ids")
    drawn = json.dumps([behaviour.to_json() for behaviour in behaviours], sort_keys=True)
    digest = hashlib.blake2b(drawn.encode(), digest_size=8).hexdigest()
    return {"attack": config.model_dump(mode="json"), "behaviours": digest}


def _known(record: Path, header: dict[str, object]) -> _Known:
    """Raises ValueError for the record of another attack."""
    lines = iter(jsonl.read(record) if record.exists() else ())
    first = next(lines, None)
    if first is None:
        return _Known(header)
    if first != header:
        raise ValueError(f"{record} holds another attack (behaviours or config differ): choose another file")
    return _Known(header, True, {(a.behaviour, a.number): a for a in map(Attempt.from_json, lines)})


def read_attempts(record: Path) -> Iterable[Attempt]:
    """The attempts of a record, in the order they ended."""
    return (Attempt.from_json(line) for line in jsonl.read(record) if "attack" not in line)
