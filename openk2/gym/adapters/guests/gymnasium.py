"""A gymnasium environment in a guest process: its observations as text, its actions as text or a number."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Any

import gymnasium
from gymnasium import spaces

_COLOURED = re.compile(r"(?:\x1b\[[\d;]*m)+([^\x1b]+)\x1b\[0m")


class Guest:
    """One environment."""

    def make(self, id: str, file: str | None, options: dict[str, Any], render: bool) -> dict[str, Any]:
        """Make it, and say what its actions are. Raises TypeError for spaces that are no text."""
        if file is not None:
            spec = importlib.util.spec_from_file_location("registers", file)
            assert spec is not None
            assert spec.loader is not None
            sys.modules["registers"] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        self._render = render
        self._env = gymnasium.make(id, **options, **({"render_mode": "ansi"} if render else {}))
        actions, observations = self._env.action_space, self._env.observation_space
        if not render and not _is_text(observations):
            raise TypeError(
                f"its observations are {observations}: only Text, Discrete and Tuples of them are text; or show its ansi render"
            )
        if isinstance(actions, spaces.Discrete):
            return {"first": int(actions.start), "num": int(actions.n)}
        if isinstance(actions, spaces.Text):
            return {"first": 0, "num": 0}
        raise TypeError(f"its actions are {actions}: only Text and Discrete can be said")

    def reset(self, seed: int) -> str:
        """Begin an episode."""
        observation, _ = self._env.reset(seed=seed)
        return self._shown(observation)

    def step(self, action: str | int) -> dict[str, Any] | None:
        """Act; None for what is no action here."""
        if not self._env.action_space.contains(action):
            return None
        observation, reward, terminated, truncated, _ = self._env.step(action)
        return {
            "shown": self._shown(observation),
            "reward": float(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
        }

    def close(self) -> None:
        """End the episode."""
        self._env.close()

    def _shown(self, observation: Any) -> str:
        if not self._render:
            return ", ".join(map(str, observation)) if isinstance(observation, tuple) else str(observation)
        return _COLOURED.sub(r"[\1]", str(self._env.render())).strip("\n")


def _is_text(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Tuple):
        return all(map(_is_text, space.spaces))
    return isinstance(space, spaces.Text | spaces.Discrete)
