"""An OpenEnv server for the tests: ``python openenv_server.py KIND PORT``."""

import os
import sys
import time
from typing import Any

import uvicorn
from fastmcp import FastMCP
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State


class Guess(Action):
    """A guess at the number."""

    number: int


class Told(Observation):
    """What comes of it."""

    said: str


class Guessing(Environment[Guess, Told, State]):
    """Find a number from 0 to 63 that the seed decides."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Told:
        self._state = State(episode_id=episode_id)
        self._number = (seed or 0) * 37 % 64
        return Told(said="guess a number from 0 to 63")

    def step(self, action: Guess, timeout_s: float | None = None, **kwargs: Any) -> Told:
        self._state.step_count += 1
        if action.number == -1:
            time.sleep(1000)
        if action.number == -2:
            raise RuntimeError("lost the number")
        if action.number == -3:
            os._exit(1)
        if action.number == self._number:
            return Told(said="yes", done=True, reward=1.0)
        return Told(said="higher" if action.number < self._number else "lower", done=False, reward=0.0)

    @property
    def state(self) -> State:
        return self._state


class Tools(MCPEnvironment):
    """The same game with a tool, over MCP."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp = FastMCP("guessing")
        self._state = State()
        self._number = 0

        @mcp.tool
        def guess(number: int) -> str:
            """Guess the number."""
            return "yes" if number == self._number else "higher" if number < self._number else "lower"

        super().__init__(mcp)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Observation:
        self._number = (seed or 0) * 37 % 64
        return Observation(metadata={"message": "guess a number from 0 to 63"})

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        return self._judged(action, super().step(action, timeout_s=timeout_s, **kwargs))

    async def step_async(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        return self._judged(action, await super().step_async(action, timeout_s=timeout_s, **kwargs))

    def _judged(self, action: Action, observation: Observation) -> Observation:
        if isinstance(action, CallToolAction) and action.arguments.get("number") == self._number:
            observation.done, observation.reward = True, 1.0
        return observation

    def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        return Observation(done=False, reward=0.0)

    @property
    def state(self) -> State:
        return self._state


APPS = {
    "guessing": lambda: create_fastapi_app(Guessing, Guess, Told, max_concurrent_envs=8),
    "tools": lambda: create_fastapi_app(Tools, CallToolAction, CallToolObservation, max_concurrent_envs=8),
}

if __name__ == "__main__":
    uvicorn.run(APPS[sys.argv[1]](), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
