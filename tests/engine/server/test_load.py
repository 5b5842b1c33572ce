"""Many clients at once: none is dropped, none is starved."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from statistics import fmean

import httpx2
import pytest

from tests.engine.server.process import Process, serving

NUM_CLIENTS = 64


async def talk(client: httpx2.AsyncClient, server: Process, number: int, seconds: float) -> float:
    """Stream answers one after another; how many tokens came a second. Raises when one breaks off."""
    num_tokens, started = 0, time.monotonic()
    while time.monotonic() < started + seconds:
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": f"client {number}"}],
            "max_tokens": 64,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with client.stream("POST", server.address + "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200
            lines = [line async for line in response.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        num_tokens += json.loads(lines[-2].removeprefix("data: "))["usage"]["completion_tokens"]
    return num_tokens / (time.monotonic() - started)


async def rates(server: Process, seconds: float) -> list[float]:
    """Tokens a second of each client."""
    limits = httpx2.Limits(max_connections=NUM_CLIENTS)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        return await asyncio.gather(*(talk(client, server, number, seconds) for number in range(NUM_CLIENTS)))


def check(folder: Path, seconds: float) -> None:
    with serving(folder, "--max-rows", "64") as server:
        found = asyncio.run(rates(server, seconds))
        print(f"{sum(found):.0f} tokens/s, a client {min(found):.1f} to {max(found):.1f}")
        assert min(found) >= 0.5 * fmean(found)
        assert "openk2_running 0.0" in httpx2.get(server.address + "/metrics").text


def test_sixty_four_streams(folder: Path) -> None:
    check(folder, 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixty_four_streams_for_a_minute(folder: Path) -> None:
    check(folder, 60)
