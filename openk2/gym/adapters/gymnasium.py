"""gymnasium environments that speak text: an observation is a user message, a reply is an action.

Their code runs in a process (``guest.py``), which is killed when it takes too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from openk2.gym.adapters.config import GymnasiumConfig
from openk2.gym.adapters.guest import GUESTS, Guest, GuestError, GuestHungError
from openk2.gym.adapters.reward import verdict
from openk2.gym.adapters.seeds import seed_tasks
from openk2.gym.answer import read_choice, read_number
from openk2.gym.question import MOST_CHARACTERS
from openk2.schema import Message, Observation, Score, Task, Trace

FAMILY = "gymnasium"


class GymnasiumEnv:
    """One episode at a time of one environment (an ``Env``); a task is a seed of it."""

    resumable: Literal["none"] = "none"

    def __init__(self, config: GymnasiumConfig) -> None:
        """The environment is made when the first episode begins."""
        self._config = config
        self._guest = Guest(GUESTS / "gymnasium.py", "gymnasium", config.python)
        self._space: dict[str, int] | None = None
        self._rewards: list[float] = []
        self._num_steps = 0
        self._state: Literal["none", "open", "ended", "cut", "raised", "hung"] = "none"

    def tasks(self, split: str) -> Sequence[Task]:
        """Seeds, "train" or "heldout" by a hash of them. Raises ValueError for another split."""
        return seed_tasks(FAMILY, self._config.id, split, self._config)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Begin the episode of the task's own seed. Raises ValueError for another environment's task, GuestError if it fails."""
        config = self._config
        if task.kind != config.id:
            raise ValueError(f'task "{task.id}" is of "{task.kind}", not "{config.id}"')
        self._rewards, self._num_steps, self._state = [], 0, "none"
        if self._space is None:
            render, file = config.shows == "render", None if config.file is None else str(config.file)
            made = {"id": config.id, "file": file, "options": config.options, "render": render}
            self._space = await self._asked("make", config.reset_s, **made)
            if config.actions and len(config.actions) != self._space["num"]:
                told = f"{config.id} has {self._space['num'] or 'no'} numbered actions, but {len(config.actions)} words are set for them"
                self._space = None
                raise ValueError(told)
        shown = await self._asked("reset", config.reset_s, seed=task.payload["seed"])
        self._state = "open"
        return Observation([Message("user", f"{config.prompt}\n\n{shown}")], [])

    async def step(self, message: Message) -> Observation:
        """Take the reply as an action; what is none is said so and costs a step. Raises ValueError when no episode is open.

        Code that raises or hangs ends the episode: ``info`` says how.
        """
        if self._state != "open":
            raise ValueError("no episode is open: call reset first")
        self._num_steps += 1
        action = self._action(message)
        try:
            result = None if action is None else await self._asked("step", self._config.step_s, action=action)
        except GuestError as error:
            self._state = "hung" if isinstance(error, GuestHungError) else "raised"
            return Observation([], [], truncated=True, info={"error": str(error)})
        shown = f"That is no action. {self._wanted()}" if result is None else result["shown"]
        if result is not None:
            self._rewards.append(result["reward"])
            if result["terminated"] or result["truncated"]:
                self._state = "ended" if result["terminated"] else "cut"
        if self._state == "open" and self._num_steps >= self._config.max_steps:
            self._state = "cut"
        return Observation(
            [Message("user", shown)], [], terminated=self._state == "ended", truncated=self._state == "cut"
        )

    async def score(self, trace: Trace) -> Score:
        """By the config's rule (``reward.py``). Parts ``raised``, ``hung``: what the environment's code did."""
        if self._state in ("raised", "hung"):
            return Score(0.0, {self._state: 1.0})
        return verdict(self._rewards, self._config.reward, self._config.passes_at, ended=self._state == "ended")

    async def close(self) -> None:
        """Forget the episode. The process goes on, for the next one, as long as this object."""
        self._state = "none"

    def snapshot(self) -> bytes:
        """Raises ValueError: an episode cannot be taken up again."""
        raise ValueError(f"{FAMILY} episodes have no snapshot")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: an episode cannot be taken up again."""
        raise ValueError(f"{FAMILY} episodes have no snapshot")

    async def _asked(self, method: str, within: float, **arguments: Any) -> Any:
        try:
            return await self._guest.ask(method, within, **arguments)
        except BaseException:
            # Whatever state it was in, the next episode gets a new one.
            self._guest.end()
            self._space = None
            raise

    def _action(self, message: Message) -> str | int | None:
        """The one action that a reply names."""
        assert self._space is not None, "reset comes first"
        reply, first = message.content, self._space["first"]
        if message.tool_calls or len(reply) > MOST_CHARACTERS:
            return None
        if not self._space["num"]:
            return reply.strip()
        if self._config.actions:
            word = read_choice(reply, self._config.actions)
            return None if word is None else first + self._config.actions.index(word)
        number = read_number(reply)
        return int(number) if number is not None and number == int(number) else None

    def _wanted(self) -> str:
        assert self._space is not None, "reset comes first"
        if self._config.actions:
            return f"Say one of: {', '.join(self._config.actions)}."
        first, num = self._space["first"], self._space["num"]
        return f"Say a number from {first} to {first + num - 1}." if num else "Say it in the form the game asks for."
