"""Environments for the tests of the gymnasium adapter, run where gymnasium is."""

import os
import time

import gymnasium
from gymnasium import spaces

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,?!"


class Guessing(gymnasium.Env):
    """Find a number from 0 to 63, said in words of text."""

    observation_space = spaces.Text(200, charset=LETTERS)
    action_space = spaces.Text(20, charset=LETTERS)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = int(self.np_random.integers(64))
        return "guess a number from 0 to 63.", {}

    def step(self, action):
        if action == "hang":
            time.sleep(1000)
        if action == "fail":
            raise RuntimeError("lost the number")
        if action == "die":
            os._exit(1)
        if action == "nan":
            return "what?", float("nan"), True, False, {}
        if not action.isdigit():
            return "a number, please.", 0.0, False, False, {}
        guess = int(action)
        if guess == self.number:
            return "yes!", 1.0, True, False, {}
        return "higher." if guess < self.number else "lower.", 0.0, False, False, {}


class Boxed(Guessing):
    observation_space = spaces.Box(0, 1)


gymnasium.register("Guessing-v0", Guessing)
gymnasium.register("Boxed-v0", Boxed)
