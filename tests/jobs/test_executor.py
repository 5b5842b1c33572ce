import asyncio

import pytest

from openk2.jobs.executor import run_jobs


def collect(function, items, **limits):
    async def run():
        return [outcome async for outcome in run_jobs(function, items, **limits)]

    return asyncio.run(run())


def test_bounded_lazy_and_complete():
    running, peak, drawn = 0, 0, 0

    def source():
        nonlocal drawn
        for n in range(50):
            drawn += 1
            assert drawn - finished <= 4
            yield n

    finished = 0

    async def job(n):
        nonlocal running, peak, finished
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001 * (n % 3))
        running -= 1
        finished += 1
        return n * n

    outcomes = collect(job, source(), num_workers=4, limit_s=5)
    assert sorted(outcome.value for outcome in outcomes) == [n * n for n in range(50)]
    assert peak == 4


def test_a_failing_and_a_hanging_job_cost_themselves_alone():
    async def job(n):
        if n == 1:
            raise RuntimeError("broken")
        if n == 2:
            await asyncio.sleep(60)
        return n

    outcomes = {outcome.item: outcome for outcome in collect(job, range(4), num_workers=2, limit_s=0.05)}
    assert outcomes[0].value == 0
    assert outcomes[3].value == 3
    assert isinstance(outcomes[1].error, RuntimeError)
    assert isinstance(outcomes[2].error, TimeoutError)


def test_no_workers_is_refused():
    with pytest.raises(ValueError, match="num_workers"):
        collect(asyncio.sleep, [0], num_workers=0, limit_s=1)
