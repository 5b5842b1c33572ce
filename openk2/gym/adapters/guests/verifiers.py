"""A verifiers taskset (0.4) in a guest process: its tasks, and its rewards for a reply."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.configs.agent import WireAgentConfig
from verifiers.v1.state import state_cls
from verifiers.v1.utils.loaders import environment_class, taskset_config_type

_ROLES = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}


class Guest:
    """One taskset."""

    def load(self, taskset: str, folder: str | None, options: dict[str, Any], num: int) -> None:
        """Read the tasks. Raises TypeError for those that take more than one reply, or a runtime, to judge."""
        if folder is not None:
            sys.path.append(folder)
        found = vf.load_taskset(taskset_config_type(taskset).model_validate({**options, "id": taskset}))
        if not issubclass(environment_class(taskset), vf.SingleAgentEnv):
            raise TypeError(f"{taskset} has an environment with a loop of its own")
        if type(found).toolsets(found.config):
            raise TypeError(f"{taskset} has tool servers, which need its runtime")
        self._tasks = list(itertools.islice(found, num))
        self._messages = [self._opened(task) for task in self._tasks]

    def opened(self) -> list[list[dict[str, str]]]:
        """The messages that each task opens with."""
        return self._messages

    def score(self, index: int, opened: list[dict[str, str]], reply: str) -> dict[str, float]:
        """Its weighted rewards, by name. Raises ValueError where the taskset has another task at this place."""
        task = self._tasks[index]
        if self._messages[index] != opened:
            raise ValueError(f"the taskset installed now asks something else at {index}")
        nodes = [
            vf.MessageNode(
                parent=place - 1 if place else None, message=_ROLES[message["role"]](content=message["content"])
            )
            for place, message in enumerate(opened)
        ]
        nodes.append(vf.MessageNode(parent=len(nodes) - 1, message=vf.AssistantMessage(content=reply), sampled=True))
        kind = type(task)
        trace = vf.Trace[kind.data_type(), state_cls(kind), WireAgentConfig](
            task=vf.TraceTask(type=kind.__name__, data=task.data),
            agent=vf.AgentInfo(config=WireAgentConfig()),
            nodes=nodes,
        )
        asyncio.run(task.score(trace))
        return {name: reward.value for name, reward in trace.rewards.items() if reward is not None}

    def _opened(self, task: Any) -> list[dict[str, str]]:
        kind, data = type(task), task.data
        if kind.NEEDS_CONTAINER or kind.toolsets(task.config):
            raise TypeError(f"{kind.__name__} needs a runtime of its own")
        judges = task.plugged_judges()
        if judges:
            raise TypeError(f"{kind.__name__} is decided by a judge: {judges[0].reward_name}")
        for reward in task.hooks("reward"):
            runtime = inspect.signature(reward).parameters.get("runtime")
            if runtime is not None and runtime.default is inspect.Parameter.empty:
                raise TypeError(f"{kind.__name__}'s reward {reward.__name__} needs a runtime")
        prompt = [vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else list(data.prompt or [])
        if not prompt:
            raise TypeError(f"{kind.__name__} lets the user begin, who is not here")
        if data.system_prompt is not None:
            prompt.insert(0, vf.SystemMessage(content=data.system_prompt))
        for message in prompt:
            if message.role not in _ROLES or not isinstance(message.content, str):
                raise TypeError(f"{kind.__name__} opens with what is no text: {message.role}")
        return [{"role": message.role, "content": message.content} for message in prompt]
