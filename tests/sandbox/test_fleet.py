"""Boxes on a Ray cluster of two nodes, on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from openk2.sandbox.enclosure import SandboxError
from openk2.sandbox.fleet import Fleet, FleetConfig
from openk2.sandbox.sandbox import Sandbox
from tests.sandbox.conftest import SMALL

ray = pytest.importorskip("ray", reason="pip install 'openk2[ray]'")


def test_without_a_cluster_it_says_so() -> None:
    async def enter() -> None:
        async with Fleet(FleetConfig(1)):
            pass

    with pytest.raises(SandboxError, match=r"no Ray cluster is connected: call ray\.init first"):
        asyncio.run(enter())


@pytest.mark.timeout(300)
def test_boxes_run_on_every_node_keep_their_files_and_survive_an_actor() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        asyncio.run(_use())
    finally:
        ray.shutdown()
        cluster.shutdown()


async def _use() -> None:
    async with Fleet(FleetConfig(num_actors=2, boxes=4, warm=2), SMALL) as fleet:
        nodes = {actor["NodeID"] for actor in await asyncio.to_thread(_actors)}
        assert len(nodes) == 2

        async def twice(number: int) -> bytes:
            box = Sandbox(pool=fleet)
            assert (await box.run(["sh", "-c", f"echo {number} > kept"])).outcome == "ok"
            return (await box.run(["cat", "kept"])).stdout

        assert await asyncio.gather(*(twice(number) for number in range(24))) == [b"%d\n" % n for n in range(24)]
        ended = [
            (await Sandbox(pool=fleet).run(["sh", "-c", what])).outcome for what in ("exit 3", "while :; do :; done")
        ]
        assert ended == ["failed", "timeout"]

        # One actor dies with runs under way: others take them, and it comes back.
        runs = [asyncio.create_task(Sandbox(pool=fleet).run(["sleep", "1"])) for _ in range(8)]
        await asyncio.sleep(0.5)
        os.kill((await asyncio.to_thread(_actors))[0]["Pid"], signal.SIGKILL)
        assert Counter([(await run).outcome for run in runs]) == {"ok": 8}
        assert await asyncio.gather(*(twice(number) for number in range(8))) == [b"%d\n" % n for n in range(8)]


def _actors() -> list[dict]:
    """Those alive; the state API wants a dashboard."""
    from ray._private.state import actors

    return [
        {"NodeID": actor["Address"]["NodeID"], "Pid": actor["Pid"]}
        for actor in actors().values()
        if actor["State"] == "ALIVE"
    ]
