"""Long tool tasks with a talking user as an environment: the scenarios behind the Env contract (K2 §3.1, §3.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Literal, overload

from openk2.gym.family import Family
from openk2.gym.tool_agents import call_at_random, calls_of
from openk2.schema import Message, Observation, Score, Task, Trace
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.faults import NO_FAULTS
from openk2.worlds.scenario.synthesize import SynthesisConfig, gated, scenario_of

MOST_TRIES = 20


class Scenarios(Sequence[Task]):
    """The tasks of a split, made when asked for. In place of one that a gate turns away stands a later one, beyond the end."""

    def __init__(self, config: SynthesisConfig) -> None:
        self._config = config

    def __len__(self) -> int:
        return self._config.num_tasks

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self._config.split} has {len(self)} tasks, no number {index}")
        for candidate in range(index % len(self), MOST_TRIES * len(self), len(self)):
            scenario = gated(self._config, candidate, partial(scenario_of, self._config, candidate))
            if isinstance(scenario, Scenario):
                return scenario.to_task()
        raise ValueError(f"{self._config.split}: no task number {index}, {MOST_TRIES} were turned away")


class ScenarioEnv:
    """One episode at a time: calls are executed, a message without calls is an answer, and the user says the next thing."""

    resumable: Literal["snapshot"] = "snapshot"

    def __init__(self, config: SynthesisConfig) -> None:
        self._config = config
        self._task: Task | None = None
        self._conversation: Conversation | None = None
        self._seed = 0

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of any split: a name that seeds them. All but ``train`` are on values that training never shows."""
        return Scenarios(self._config.model_copy(update={"split": split}))

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin: who the agent is, the user's first words, the declared tools. ``seed`` decides on faults."""
        await self.close()
        self._begin(task, seed)
        return Observation(self.conversation.opening(), self.conversation.scenario.tools)

    async def step(self, message: Message) -> Observation:
        """Execute the message's calls; without calls it answers the user, who goes on or has nothing more to say."""
        conversation = self.conversation
        if conversation.ended:
            raise RuntimeError("the episode has ended: the user has nothing more to say")
        if message.tool_calls:
            return Observation(conversation.call(message.tool_calls), conversation.scenario.tools)
        said = conversation.answer(message.content)
        return Observation(said, conversation.scenario.tools, terminated=conversation.ended)

    async def score(self, trace: Trace) -> Score:
        """Judge the episode just played by records, calls and answers as they happened here."""
        return self.conversation.score()

    async def close(self) -> None:
        """Free the episode's databases."""
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None

    @property
    def conversation(self) -> Conversation:
        """The episode, to look at."""
        assert self._conversation is not None, "reset comes first"
        return self._conversation

    def snapshot(self) -> bytes:
        """The whole episode: task, seed, records, log, answers."""
        assert self._task is not None, "reset comes first"
        whole = {"task": self._task.to_json(), "seed": self._seed, "episode": self.conversation.snapshot()}
        return json.dumps(whole).encode()

    def restore(self, state: bytes) -> None:
        """Go back to a snapshot, of this or another ScenarioEnv of the same config."""
        whole = json.loads(state)
        if self._conversation is not None:
            self._conversation.close()
        self._begin(Task.from_json(whole["task"]), whole["seed"])
        self.conversation.restore(whole["episode"])

    def _begin(self, task: Task, seed: int) -> None:
        self._task, self._seed = task, seed
        self._conversation = Conversation(Scenario.of(task), seed, self._config.faults)


def _carry_out(task: Task, observation: Observation, rng: Random) -> list[Message]:
    """Each turn's calls and answer; as no tool fails without faults, they need not wait for results."""
    return [
        message
        for turn in task.payload["turns"]
        for message in (*calls_of(turn["calls"]), Message("assistant", turn["answer"]))
    ]


FAMILY = Family(
    "scenario", "long tool tasks over evolved apps, with a user who talks",
    partial(ScenarioEnv, SynthesisConfig(num_tasks=500, faults=NO_FAULTS)), _carry_out, call_at_random, chance=0.0,
)  # fmt: skip
