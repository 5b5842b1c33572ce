"""A taskset for the tests of the verifiers adapter, run where verifiers is."""

import time

import verifiers.v1 as vf


class SumsConfig(vf.TasksetConfig):
    first: int = 2


class SumData(vf.TaskData):
    answer: str


class SumTask(vf.Task[SumData]):
    @vf.reward(weight=0.75)
    async def right(self, trace) -> float:
        reply = trace.messages[-1].content.strip()
        if reply == "hang":
            time.sleep(1000)
        if reply == "fail":
            raise RuntimeError("lost the answer")
        return float(reply == self.data.answer)

    @vf.reward(weight=0.25)
    async def short(self, trace) -> float:
        return float(len(trace.messages[-1].content) < 10)

    @vf.metric
    async def length(self, trace) -> float:
        return len(trace.messages[-1].content)


class SumsTaskset(vf.Taskset[SumTask, SumsConfig]):
    def load(self):
        for number in range(self.config.first, self.config.first + 30):
            data = SumData(
                prompt=f"What is {number} + 5?", system_prompt="Say the number alone.", answer=str(number + 5)
            )
            yield SumTask(data, self.config.task)


__all__ = ["SumsTaskset"]
