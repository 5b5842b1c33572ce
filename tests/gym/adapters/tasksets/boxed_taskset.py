"""A taskset whose reward needs a runtime."""

import verifiers.v1 as vf


class BoxedTask(vf.Task[vf.TaskData]):
    @vf.reward
    async def built(self, trace, runtime) -> float:
        return 1.0


class BoxedTaskset(vf.Taskset[BoxedTask, vf.TasksetConfig]):
    def load(self):
        yield BoxedTask(vf.TaskData(prompt="Build it."), self.config.task)


__all__ = ["BoxedTaskset"]
