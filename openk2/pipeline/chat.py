"""Talk to a run's agent in a terminal: a live world stands behind its tools, and every call is shown."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from rich.console import Console

from openk2.agent import Budget, run_episode
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.gym.families import tasks
from openk2.gym.tools import ToolEnv
from openk2.pipeline.export import newest_stage
from openk2.pipeline.folder import Run
from openk2.schema import Message, Observation, Sampling, Score, Task, Trace
from openk2.view.trace import render_message
from openk2.worlds.config import WorldsConfig


class ConversationEnv(ToolEnv):
    """A tool world in which a person at the keyboard speaks for the user. An empty line ends it."""

    def __init__(self, config: WorldsConfig, console: Console) -> None:
        super().__init__(config)
        self._console = console
        self.left = False

    async def reset(self, task: Task, seed: int) -> Observation:
        """Show the world, then ask what the person wants; an empty line asks what the task would."""
        observation = await super().reset(task, seed)
        suggestion = observation.messages[0].content
        self._console.rule("the world")
        for table, rows in self.world.rows().items():
            for row in rows:
                self._console.print(f"{table}: {row}", markup=False)
        for tool in observation.tools:
            names = ", ".join(tool.parameters["properties"])
            self._console.print(f"tool {tool.name}({names}): {tool.description}", markup=False)
        self._console.rule("an empty line asks the suggested question, and later ends the conversation")
        self._console.print(f"suggested: {suggestion}", markup=False)
        said = self._ask() or suggestion
        return Observation([Message("user", said)], observation.tools, terminated=self.left)

    async def step(self, message: Message) -> Observation:
        """Show what the agent does; execute its calls, or hand its answer to the person."""
        self._console.print(render_message(message))
        if message.tool_calls:
            observation = await super().step(message)
            for result in observation.messages:
                self._console.print(render_message(result))
            return observation
        said = self._ask()
        return Observation([Message("user", said)] if said else [], self.world.tools, terminated=not said)

    async def score(self, trace: Trace) -> Score:
        """A conversation is not judged."""
        return Score(0.0)

    def _ask(self) -> str:
        """A line from the person; the end of input is an empty line after which they have ``left``."""
        try:
            return self._console.input("you: ").strip()
        except EOFError:
            self.left = True
            return ""


def chat(folder: Path) -> None:
    """Hold conversations until the person presses Ctrl-C or Ctrl-D; each in another world."""
    run = Run.reopen(folder)
    stage = newest_stage(run)
    recipe, format_ = run.recipe, run.chat_format()
    context = recipe.model.max_positions
    engine = Engine(run.model_after(stage), format_, EngineConfig(max_rows=1, max_context=context))
    sampling = Sampling(temperature=recipe.eval.temperature, max_tokens=recipe.eval.max_tokens)
    budget = Budget(turns=64, tokens=context, context=context)
    run.say(f"the agent after stage {stage} of {folder}; Ctrl-D leaves")
    # asyncio's own handler would wait for the event loop, which waits for the keyboard.
    before = signal.signal(signal.SIGINT, _leave)
    try:
        for number, task in enumerate(tasks("tools", recipe.worlds, "heldout")):
            env = ConversationEnv(recipe.worlds, run.console)
            play = run_episode(engine, env, task, seed=number, sampling=sampling, budget=budget, chat=format_)
            trace = asyncio.run(play)
            if env.left:
                break
            if trace.stop_reason != "done":
                run.console.print(render_message(trace.messages[-1]))
                run.say(f"(cut short: {trace.stop_reason})")
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    run.say("")


def _leave(*_: object) -> None:
    raise KeyboardInterrupt
