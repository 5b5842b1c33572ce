"""The one episode loop: a model acts in an environment until the task ends or a budget does.

Synthesis, reinforcement learning, evaluation and chat all run this loop. With a plain ``ChatModel``
the trace holds messages; with a ``Policy`` it also holds every token, and each turn continues the
tokens of the last one: what was sampled is never re-tokenised.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

from openk2.schema import (
    ChatModel,
    Env,
    Message,
    Observation,
    Policy,
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


EnvTrouble = Literal["timed_out", "raised", "wrong_type"]


class EnvFailedError(Exception):
    """An environment broke down in the middle of an episode; ``trouble`` names how."""

    def __init__(self, trouble: EnvTrouble, told: str) -> None:
        super().__init__(told)
        self.trouble = trouble


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
    """One task being played. ``play`` runs it to its end; between turns it can be paused."""

    model: ChatModel
    env: Env
    task: Task
    seed: int
    sampling: Sampling
    budget: Budget
    chat: ChatFormat | None = None
    trace: Trace = field(init=False)
    num_turns: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        tokenizer_hash = "" if self.chat is None else self.chat.tokenizer.hash
        info = {"family": self.task.family, "kind": self.task.kind, "split": self.task.split, "tags": self.task.tags}
        self.trace = Trace(
            f"{self.task.id}#{self.seed}", self.task.id, self.seed, tokenizer_hash, [], [], [], info=info
        )

    async def play(self) -> Trace:
        """Reset, act until the end, score. The environment is closed whatever happens."""
        try:
            if self.num_turns == 0:
                self._observe(await self._guarded(self.env.reset(self.task, self.seed), Observation))
            while self.trace.stop_reason is None:
                await self.turn()
            self.trace.score = await self._guarded(self.env.score(self.trace), Score)
        finally:
            await self._guarded(self.env.close(), type(None))
        return self.trace

    async def turn(self) -> None:
        """One assistant turn and the environment's answer."""
        message, cut = await self._act()
        self.num_turns += 1
        self.trace.messages.append(message)
        if cut is not None:
            self.trace.stop_reason = cut
            return
        observation = await self._guarded(self.env.step(message), Observation)
        last_turn = self.num_turns >= self.budget.turns and not observation.terminated
        self._observe(observation, out_of_turns=last_turn)

    async def _act(self) -> tuple[Message, StopReason | None]:
        if self.chat is None or not isinstance(self.model, Policy):
            return await self.model.complete(self.trace.messages, self.trace.tools, self.sampling), None
        left = self.budget.tokens - self.trace.num_sampled
        sampling = replace(
            self.sampling,
            max_tokens=min(self.sampling.max_tokens, left),
            seed=_turn_seed(self.trace.id, self.seed, self.num_turns),
        )
        sampled = await self.model.sample(self.trace.token_ids, sampling)
        self.trace.segments.append(
            Segment(
                source="sampled",
                token_ids=sampled.token_ids,
                loss_mask=[True] * len(sampled.token_ids),
                logprobs=sampled.logprobs,
                weight_version=sampled.weight_version,
                temperature=self.sampling.temperature,
                experts=sampled.experts,
            )
        )
        cut: StopReason | None = "token_budget" if sampled.stop_reason == "length" else None
        return self.chat.parse(sampled.token_ids), cut

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
        try:
            async with asyncio.timeout(self.budget.env_seconds):
                given = await call
        except TimeoutError as error:
            raise EnvFailedError("timed_out", f"no answer within {self.budget.env_seconds:g} s") from error
        except Exception as error:
            raise EnvFailedError("raised", f"{type(error).__name__}: {error}") from error
        if wrong := _wrong(given, wanted):
            raise EnvFailedError("wrong_type", wrong)
        return given

    def pause(self) -> dict[str, Any]:
        """Everything needed to go on later, in another process too. Only for ``snapshot`` environments."""
        if self.env.resumable != "snapshot":
            raise ValueError(f"{type(self.env).__name__} cannot be paused: it is resumable by {self.env.resumable!r}")
        return {
            "task": self.task.to_json(),
            "trace": self.trace.to_json(),
            "num_turns": self.num_turns,
            "env": self.env.snapshot().hex(),
        }

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
    ) -> Self:
        """Take up a paused episode where it stood; ``play`` then runs it to its end."""
        trace = Trace.from_json(paused["trace"])
        episode = cls(model, env, Task.from_json(paused["task"]), trace.seed, sampling, budget, chat)
        episode.trace, episode.num_turns = trace, paused["num_turns"]
        env.restore(bytes.fromhex(paused["env"]))
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
    """Play one task and score it.

    Tokens are recorded when ``model`` is a Policy and ``chat`` is given. A broken environment costs
    its own trace only: the error is noted, the score is 0.
    """
    episode = Episode(model, env, task, seed, sampling or Sampling(), budget or Budget(), chat)
    try:
        return await episode.play()
    except EnvFailedError as failure:
        trace = episode.trace
        trace.stop_reason, trace.score = "env_error", Score(0.0)
        trace.info |= {"trouble": failure.trouble, "error": str(failure)}
        return trace


def _wrong(given: object, wanted: type) -> str:
    """What an environment has got wrong about its answer, or nothing."""
    if not isinstance(given, wanted):
        return f"gave a {type(given).__name__} where a {wanted.__name__} belongs"
    if isinstance(given, Observation):
        if not all(isinstance(message, Message) for message in given.messages):
            return "gave messages that are none"
        if not all(isinstance(tool, ToolSpec) for tool in given.tools):
            return "gave tools that are none"
    return ""


def _turn_seed(trace_id: str, seed: int, turn: int) -> int:
    """A seed of its own for every turn of every episode."""
    return int.from_bytes(hashlib.sha256(f"{trace_id}:{seed}:{turn}".encode()).digest()[:7], "big")
