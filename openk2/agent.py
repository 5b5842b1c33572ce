"""The one episode loop: a model acts in an environment until the task ends or a budget does.

Synthesis, reinforcement learning, evaluation and chat all run this loop. With a plain ``ChatModel``
the trace holds messages; with a ``Policy`` it also holds every token, and each turn continues the
tokens of the last one: what was sampled is never re-tokenised.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

from openk2.jobs.hold import HeldError, HoldLimit
from openk2.schema import (
    ChatModel,
    Env,
    Message,
    Observation,
    Policy,
    Sampled,
    Sampling,
    Score,
    Segment,
    Source,
    StopReason,
    Task,
    ToolSpec,
    Trace,
)
from openk2.text.chat import ChatFormat

T = TypeVar("T")


EnvTrouble = Literal["timed_out", "raised", "wrong_type", "diverged"]


class EnvFailedError(Exception):
    """An environment broke down in the middle of an episode; ``trouble`` names how."""

    def __init__(self, trouble: EnvTrouble, told: str) -> None:
        super().__init__(trouble, told)  # as it is made again in another process
        self.trouble, self.told = trouble, told

    def __str__(self) -> str:
        return self.told


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one episode.

    Assistant turns; tokens the policy may sample in all; tokens it can read; seconds for one answer of the environment.
    """

    turns: int = 8
    tokens: int = 512
    context: int | None = None
    env_seconds: float = 60.0


@dataclass(slots=True)
class Episode:
    """One task being played. ``play`` runs it to its end; meanwhile it can be paused, and taken up in another process.

    ``seed`` decides what the environment draws; with it, ``rollout`` decides what the policy does, where one environment's
    episode is played several times. ``hold`` interrupts an environment that never awaits.
    """

    model: ChatModel
    env: Env
    task: Task
    seed: int
    sampling: Sampling
    budget: Budget
    chat: ChatFormat | None = None
    rollout: int | None = None
    hold: HoldLimit | None = None
    trace: Trace = field(init=False)
    num_turns: int = field(init=False, default=0)
    _begun: bool = field(init=False, default=False)
    _steps: bool = field(init=False, default=False)
    _cut: bool = field(init=False, default=False)
    _replays: bool = field(init=False, default=False)
    _temperature: float | None = field(init=False, default=None)
    _lost: EnvFailedError | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        tokenizer_hash = "" if self.chat is None else self.chat.tokenizer.hash
        info = {"family": self.task.family, "kind": self.task.kind, "split": self.task.split, "tags": self.task.tags}
        number = "" if self.rollout is None else f".{self.rollout}"
        name = f"{self.task.id}#{self.seed}{number}"
        self.trace = Trace(name, self.task.id, self.seed, tokenizer_hash, [], [], [], info=info)

    async def play(self) -> Trace:
        """Reset, act until the end, score. The environment is closed whatever happens.

        A broken environment costs its own trace only: the error is noted, the score is 0.
        """
        try:
            await self.begin()
            while self.trace.stop_reason is None:
                await self.turn()
            self.trace.score = await self._guarded(self.env.score(self.trace), Score)
        except EnvFailedError as failure:
            self._fail(failure)
        finally:
            try:
                await self._guarded(self.env.close(), type(None))
            except EnvFailedError as failure:  # noted, so that what else went wrong is not hidden by it
                self._fail(failure)
        return self.trace

    def _fail(self, failure: EnvFailedError) -> None:
        if self.trace.stop_reason != "env_error":
            self.trace.stop_reason, self.trace.score = "env_error", Score(0.0)
            self.trace.info |= {"trouble": failure.trouble, "error": str(failure)}

    async def turn(self) -> None:
        """One assistant turn and the environment's answer."""
        message, cut = await self._act()
        self.num_turns += 1
        self.trace.messages.append(message)
        if cut is not None:
            self.trace.stop_reason, self._cut = cut, True
            return
        await self._step(message)

    async def begin(self) -> None:
        """Reset the environment, or bring it to where the episode was paused; ``turn`` can come then."""
        if self._lost is not None:
            raise self._lost
        if not self._begun:
            self._observe(await self._guarded(self.env.reset(self.task, self.seed), Observation))
            self._begun = True
        if self._replays:
            await self._replay()
        if self._steps:  # it was paused while the environment was at work
            await self._step(self.trace.messages[-1])

    async def _step(self, message: Message) -> None:
        self._steps = True
        observation = await self._guarded(self.env.step(message), Observation)
        self._steps = False
        last_turn = self.num_turns >= self.budget.turns and not observation.terminated
        self._observe(observation, out_of_turns=last_turn)

    async def _replay(self) -> None:
        """Act again as the trace tells; the environment has to answer as it did."""
        never_given = self._steps or self._cut
        told = self.trace.messages[:-1] if never_given else self.trace.messages
        heard = list((await self._guarded(self.env.reset(self.task, self.seed), Observation)).messages)
        while len(heard) < len(told) and heard == told[: len(heard)]:
            message = told[len(heard)]
            heard += [message, *(await self._guarded(self.env.step(message), Observation)).messages]
        if heard != told:
            raise EnvFailedError("diverged", "it did not answer as before when the episode was played again")
        self._replays = False

    async def _act(self) -> tuple[Message, StopReason | None]:
        if self.chat is None or not isinstance(self.model, Policy):
            return await self.model.complete(self.trace.messages, self.trace.tools, self.sampling), None
        left = self.budget.tokens - self.trace.num_sampled
        if self._temperature is None:  # else the turn was begun before a pause
            self._temperature = self.sampling.temperature
        sampling = replace(
            self.sampling,
            temperature=self._temperature,
            max_tokens=min(self.sampling.max_tokens, left),
            seed=_turn_seed(self.trace.id, self.seed, self.num_turns),
        )
        sampled = await self.model.sample(self.trace.token_ids, sampling)
        self._take(sampled, self._temperature)
        self._temperature = None
        cut: StopReason | None = "token_budget" if sampled.stop_reason == "length" else None
        return self.chat.parse(sampled.token_ids), cut

    def _take(self, sampled: Sampled, temperature: float) -> None:
        """The turn's tokens, a segment for each version of the weights that drew them."""
        versions = sampled.weight_versions or [sampled.weight_version] * len(sampled.token_ids)
        start = 0
        for version, run in itertools.groupby(versions):
            end = start + len(list(run))
            self.trace.segments.append(
                Segment(
                    source="sampled",
                    token_ids=sampled.token_ids[start:end],
                    loss_mask=[True] * (end - start),
                    logprobs=sampled.logprobs[start:end],
                    weight_version=version,
                    temperature=temperature,
                )
            )
            start = end
        if sampled.experts is not None:
            start = 0
            for segment in self.trace.segments:
                segment.experts = sampled.experts[start : start + len(segment.token_ids)]
                start += len(segment.token_ids)

    def _observe(self, observation: Observation, *, out_of_turns: bool = False) -> None:
        if not self.trace.messages:
            self.trace.tools = observation.tools
        self.trace.messages.extend(observation.messages)
        if observation.terminated or observation.truncated:
            self.trace.stop_reason = "done" if observation.terminated else "truncated"
        elif out_of_turns or self.trace.num_sampled >= self.budget.tokens:
            self.trace.stop_reason = "turn_budget" if out_of_turns else "token_budget"
        elif self.chat is not None:
            self._append_tokens(observation.messages)

    def _append_tokens(self, messages: list[Message]) -> None:
        """The new messages as tokens; only a prompt still to be answered is worth its tokens."""
        assert self.chat is not None
        source: Source
        if not self.trace.segments:
            source, ids = "prompt", self.chat.prompt(messages, self.trace.tools)
        else:
            source = "tool" if any(message.role == "tool" for message in messages) else "user"
            ids = self.chat.extend(self.trace.token_ids, messages)
        context = self.budget.context
        if context is not None and len(self.trace.token_ids) + len(ids) >= context:
            self.trace.stop_reason = "token_budget"  # no room is left for a single token of an answer
            return
        self.trace.segments.append(Segment(source, ids, [False] * len(ids)))

    async def _guarded(self, call: Awaitable[T], wanted: type[T]) -> T:
        """Environments are other people's code: what they raise, never finish or get wrong becomes one kind of error."""

        async def answer() -> T:
            return await call

        try:
            async with asyncio.timeout(self.budget.env_seconds):
                given = await (answer() if self.hold is None else self.hold.watched(answer()))
        except EnvFailedError:  # of an environment elsewhere, which knows how it broke
            raise
        except HeldError as error:
            raise EnvFailedError("timed_out", str(error)) from None
        except asyncio.CancelledError as error:
            if (playing := asyncio.current_task()) is None or playing.cancelling():
                raise  # the episode is given up
            raise EnvFailedError("raised", "it cancelled itself") from error
        except TimeoutError as error:
            told = str(error) or f"no answer within {self.budget.env_seconds:g} s"
            raise EnvFailedError("timed_out", told) from error
        except Exception as error:
            raise EnvFailedError("raised", f"{type(error).__name__}: {error}") from error
        if wrong := _wrong(given, wanted):
            raise EnvFailedError("wrong_type", wrong)
        return given

    def _at_once(self, call: Callable[..., T], *given: Any) -> T:
        """What an environment does without awaiting, within its time."""
        if self.hold is None:
            return call(*given)
        try:
            return self.hold.within(call, *given)
        except HeldError as error:
            raise EnvFailedError("timed_out", str(error)) from None

    def pause(self) -> dict[str, Any] | None:
        """All that is needed to go on later, in another process too, as plain JSON; None where that cannot be.

        The environment comes along as its snapshot, or is brought back by replay. It stays behind where it offers neither,
        where it is at work on a step that only a snapshot could undo, and where taking the snapshot fails: then the trace's
        ``info`` says how, as ``unpausable``.
        """
        paused: dict[str, Any] = {"task": self.task.to_json(), "num_turns": self.num_turns, "rollout": self.rollout}
        paused |= {"begun": self._begun, "steps": self._steps, "cut": self._cut, "temperature": self._temperature}
        try:
            how = self.env.resumable if self._begun else "replay"
            if how == "none" or (how == "snapshot" and self._steps):
                return None
            if how == "snapshot":
                paused["env"] = self._at_once(self.env.snapshot).hex()
        except Exception as error:  # noqa: BLE001 - an environment is other people's code, as in ``_guarded``
            self.trace.info["unpausable"] = f"{type(error).__name__}: {error}"
            return None
        return paused | {"trace": self.trace.to_json()}

    @classmethod
    def resume(
        cls,
        paused: Mapping[str, Any],
        model: ChatModel,
        env: Env,
        *,
        sampling: Sampling,
        budget: Budget,
        chat: ChatFormat | None = None,
        hold: HoldLimit | None = None,
    ) -> Self:
        """Take up a paused episode where it stood; ``play`` then runs it to its end.

        A turn that was under way goes on at the temperature it was begun with. An environment that cannot be restored costs this
        trace: ``play`` notes it.
        """
        trace = Trace.from_json(paused["trace"])
        task = Task.from_json(paused["task"])
        episode = cls(model, env, task, trace.seed, sampling, budget, chat, paused["rollout"], hold)
        episode.trace, episode.num_turns = trace, paused["num_turns"]
        episode._begun, episode._steps = paused["begun"], paused["steps"]
        episode._cut, episode._temperature = paused["cut"], paused["temperature"]
        if "env" not in paused:
            episode._replays = episode._begun
            return episode
        try:
            episode._at_once(env.restore, bytes.fromhex(paused["env"]))
        except EnvFailedError as failure:
            episode._lost = failure
        except Exception as error:  # noqa: BLE001 - an environment is other people's code, as in ``_guarded``
            episode._lost = EnvFailedError("raised", f"{type(error).__name__}: {error}")
        return episode


async def run_episode(
    model: ChatModel,
    env: Env,
    task: Task,
    *,
    seed: int,
    sampling: Sampling | None = None,
    budget: Budget | None = None,
    chat: ChatFormat | None = None,
) -> Trace:
    """Play one task and score it. Tokens are recorded when ``model`` is a Policy and ``chat`` is given."""
    return await Episode(model, env, task, seed, sampling or Sampling(), budget or Budget(), chat).play()


def _wrong(given: object, wanted: type) -> str:
    """What an environment has got wrong about its answer, or nothing."""
    if not isinstance(given, wanted):
        return f"gave a {type(given).__name__} where a {wanted.__name__} belongs"
    if isinstance(given, Score) and not 0.0 <= given.total <= 1.0:
        return f"gave a score of {given.total:g}, which does not lie in [0, 1]"
    if isinstance(given, Observation):
        if not all(isinstance(message, Message) for message in given.messages):
            return "gave messages that are none"
        if not all(isinstance(tool, ToolSpec) for tool in given.tools):
            return "gave tools that are none"
    return ""


def _turn_seed(trace_id: str, seed: int, turn: int) -> int:
    """A seed of its own for every turn of every episode."""
    return int.from_bytes(hashlib.sha256(f"{trace_id}:{seed}:{turn}".encode()).digest()[:7], "big")
