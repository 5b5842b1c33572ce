import asyncio

import pytest

from openk2.llm.window import Window


def test_no_more_at_once_than_its_size_and_first_come_first_served():
    async def run():
        window, order, most = Window(2), [], 0

        async def one(name, *, urgent=False):
            nonlocal most
            await window.enter(urgent=urgent)
            order.append(name)
            most = max(most, window.num_in_flight)
            await asyncio.sleep(0.01)
            window.leave()

        await asyncio.gather(one("a"), one("b"), one("c"), one("d"), one("again", urgent=True))
        return order, most, window.num_in_flight

    assert asyncio.run(run()) == (["a", "b", "again", "c", "d"], 2, 0)


def test_one_that_gives_up_waiting_leaves_no_hole():
    async def run():
        window = Window(1)
        await window.enter(urgent=False)
        waiting = [asyncio.ensure_future(window.enter(urgent=False)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        window.leave()  # lets the second in …
        waiting[1].cancel()  # … who gives up in the same moment
        await asyncio.wait_for(waiting[2], 1)
        assert window.num_in_flight == 1
        window.leave()
        assert window.num_in_flight == 0

    asyncio.run(run())


def test_a_burst_of_429s_counts_once_and_answers_win_the_size_back():
    window = Window(100)
    for _ in range(10):
        window.shrink(began=1.0, now=2.0)
    assert window.size == 75
    window.shrink(began=1.5, now=2.5)  # sent before the first one was heard
    assert window.size == 75
    window.shrink(began=2.1, now=3.0)
    assert window.size == pytest.approx(56.25)
    for _ in range(57):
        window.grow()
    assert 64 < window.size < 67  # a tenth of the ceiling for a window of answers
    for _ in range(1000):
        window.grow()
    assert window.size == 100
    for now in range(10, 100):
        window.shrink(began=now, now=now)
    assert window.size == 1  # one always goes
