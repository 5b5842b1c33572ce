"""Run jobs on several cores or machines and hand their results back in order: the same output whoever did the work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any, Literal, TypeVar

from openk2.jobs.cluster import connected
from openk2.jobs.lifeline import end_with_parent

Item = TypeVar("Item")
Value = TypeVar("Value")
Where = Literal["here", "processes", "ray"]

# Results that may wait for an earlier one, for each worker: enough that none stands idle.
_AHEAD = 4


def ordered_map(
    function: Callable[[Item], Value], items: Iterable[Item], *, where: Where, num_workers: int | None, limit_s: float
) -> Iterator[Value]:
    """``function`` of every item, in order, with a bounded number under way, so that memory stays flat.

    Args:
        function: importable by name, as other processes run it; ``items`` and results are pickled between our own.
        where: in this process, in ``num_workers`` processes of this machine (None: one a core), or on a Ray cluster.
        limit_s: seconds one item may take. Raises TimeoutError beyond, RuntimeError when a worker dies.
    """
    if where == "here":
        yield from map(function, items)
        return
    with _workers(where, num_workers) as (submit, count):
        under_way: deque[tuple[Item, Future[Value]]] = deque()
        source = iter(items)
        while True:
            while len(under_way) < _AHEAD * count and (item := next(source, None)) is not None:
                under_way.append((item, submit(function, item)))
            if not under_way:
                return
            item, future = under_way.popleft()
            try:
                yield future.result(limit_s * _AHEAD)
            except TimeoutError as error:
                raise TimeoutError(f"no result for {item!r} within {limit_s * _AHEAD:g} s") from error
            except BrokenProcessPool as error:
                raise RuntimeError(f"a worker died (of memory?) on {item!r} or one near it") from error


@contextmanager
def _workers(where: Where, num_workers: int | None) -> Iterator[tuple[Callable[..., Future[Any]], int]]:
    """How to submit, and how many work at once."""
    if where == "ray":
        with connected(num_workers) as ray:
            remote = ray.remote(lambda function, item: function(item))
            yield (lambda function, item: remote.remote(function, item).future()), int(ray.cluster_resources()["CPU"])
        return
    count = num_workers or os.cpu_count() or 1
    others = set(active_children())
    pool: Executor = ProcessPoolExecutor(count, get_context("spawn"), initializer=end_with_parent)
    try:
        yield pool.submit, count
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(active_children()) - others:
            worker.terminate()  # it may be in the middle of an item that never ends
        raise
    pool.shutdown()
