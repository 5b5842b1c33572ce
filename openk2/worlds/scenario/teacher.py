"""The scripted teacher of a scenario: carries out its plan, tries again after a fault, and errs on purpose at a stated rate.

It holds the plan, so it is an oracle with a manner of speaking, not a language model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from random import Random
from typing import Any

from openk2.schema import JSON, Message, ToolCall
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.faults import is_temporary
from openk2.worlds.scenario.hands import request
from openk2.worlds.simulator import encode

MOST_TRIES = 5
VAGUE = ("Done.", "All good.", "I took care of it.", "That is settled.")
MISTAKES = ("wrong_value", "skipped_call", "vague_answer", "gives_up", "does_it_twice")


class Teacher:
    """Plays one scenario, with one mistake at most."""

    def __init__(self, scenario: Scenario, *, seed: int, sloppiness: float) -> None:
        """With probability ``sloppiness`` (by task and seed) it makes one of ``MISTAKES``."""
        rng = Random(f"teacher/{scenario.id}/{seed}")
        self._turns, self._held = scenario.turns, scenario.held
        self._gives_up = False
        self.mistake: str | None = None
        if rng.random() < sloppiness:
            self._turns = copy.deepcopy(scenario.turns)
            self.mistake = rng.choice(MISTAKES)
            self._err(self.mistake, rng)

    def play(self, conversation: Conversation) -> list[Message]:
        """The whole conversation."""
        messages = conversation.opening()
        for turn in self._turns:
            for step in turn.calls:
                self._call(conversation, step, messages)
            messages.append(Message("assistant", turn.answer))
            messages += conversation.answer(turn.answer)
        return messages

    def _call(self, conversation: Conversation, step: Mapping[str, Any], messages: list[Message]) -> None:
        for _ in range(1 if self._gives_up else MOST_TRIES):
            self._try(conversation, step, messages)
            if not is_temporary(conversation.world.log[-1].result):
                return

    def _try(self, conversation: Conversation, step: Mapping[str, Any], messages: list[Message]) -> None:
        """Make the call, or have the user make it."""
        if step["tool"] in self._held:
            words = request(step)
            messages += [Message("assistant", words), *conversation.answer(words)]
        else:
            call = ToolCall(
                f"functions.{step['tool']}:{len(conversation.world.log)}", step["tool"], encode(step["arguments"])
            )
            messages.append(Message("assistant", tool_calls=[call]))
            messages += conversation.call([call])

    def _err(self, mistake: str, rng: Random) -> None:
        acting = [turn for turn in self._turns if turn.calls]
        turn = rng.choice(acting or list(self._turns))
        if mistake == "gives_up":
            self._gives_up = True
        elif mistake == "vague_answer" or not turn.calls:
            turn.answer = rng.choice(VAGUE)
        elif mistake == "skipped_call":
            del turn.calls[rng.randrange(len(turn.calls))]
        elif mistake == "does_it_twice":
            place = rng.randrange(len(turn.calls))
            turn.calls.insert(place, copy.deepcopy(turn.calls[place]))
        else:
            _slip(rng.choice(turn.calls)["arguments"], rng)


def _slip(arguments: JSON, rng: Random) -> None:
    """Change one argument a little."""
    if not arguments:
        return
    name = rng.choice(list(arguments))
    right = arguments[name]
    if isinstance(right, int):
        arguments[name] = right + rng.choice((-10, -1, 1, 10))
    elif right:
        cut = rng.randrange(len(right))
        arguments[name] = right[:cut] + right[cut + 1 :]
