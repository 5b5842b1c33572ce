"""The server under load: 64 clients stream chat answers from a run's model for a minute.

The model is that of a finished run (`make run`), the server `openk2 serve` in its own process. Reported: tokens a second
in all and of the slowest and fastest client, the time to the first token, and whether every stream ended whole.

    python -m bench.serving runs/nano
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from openk2.jobs.provenance import provenance

CLIENTS, TOKENS = 64, 64


async def talk(client: httpx2.AsyncClient, address: str, model: str, number: int, seconds: float) -> dict:
    """Stream answers one after the other; tokens a second, waits for a first token, and streams that broke off."""
    num_tokens, broken, waits, began = 0, 0, [], time.monotonic()
    while time.monotonic() < began + seconds:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"this is client {number}"}],
            "max_tokens": TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        asked, lines = time.monotonic(), []
        async with client.stream("POST", f"{address}/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line:
                    lines.append(line)
                    if len(lines) == 2:  # after the chunk that opens the turn
                        waits.append(time.monotonic() - asked)
        if response.status_code != 200 or lines[-1] != "data: [DONE]":
            broken += 1
            continue
        num_tokens += json.loads(lines[-2].removeprefix("data: "))["usage"]["completion_tokens"]
    return {"rate": num_tokens / (time.monotonic() - began), "broken": broken, "waits": waits}


async def load(address: str, model: str, seconds: float) -> list[dict]:
    """All clients at once."""
    limits = httpx2.Limits(max_connections=CLIENTS)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        return await asyncio.gather(*(talk(client, address, model, number, seconds) for number in range(CLIENTS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/nano"), help="a run's folder or a model's")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("results/serving.json"), help="where to write the JSON")
    args = parser.parse_args()
    if not args.run.is_dir():
        print(f"{args.run} is not there, so nothing was served; `make run` makes it")
        return
    command = [sys.executable, "-m", "openk2.cli", "serve", str(args.run), "--port", "0", "--max-rows", str(CLIENTS)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(line for line in server.stdout if line.startswith("serving")).split()[-1]
    try:
        name = args.run.resolve().name
        asyncio.run(load(address, name, 2.0))
        clients = asyncio.run(load(address, name, args.seconds))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    rates = [client["rate"] for client in clients]
    waits = sorted(wait for client in clients for wait in client["waits"])
    results = {
        "provenance": provenance(),
        "clients": CLIENTS,
        "seconds": args.seconds,
        "tokens_per_second": sum(rates),
        "slowest": min(rates),
        "mean": statistics.fmean(rates),
        "fastest": max(rates),
        "slowest_over_mean": min(rates) / statistics.fmean(rates),
        "answers": len(waits),
        "broken": sum(client["broken"] for client in clients),
        "first_token_seconds": {"median": statistics.median(waits), "p99": waits[int(0.99 * len(waits))]},
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
