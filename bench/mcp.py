"""Tool calls a second to one MCP server over stdio: one after the other, and 16 in flight.

Ours (time limit, size limit, lock, restarts) against the official SDK's own client, on the same servers, in alternating
rounds; medians count. The servers: a bare loop that answers at once, which shows what the client costs; the reference
servers everything (Node) and time (Python), where they are installed.

    python -m bench.mcp --out results/mcp.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from openk2.jobs.provenance import provenance
from openk2.worlds.mcp.client import Server
from openk2.worlds.mcp.process import Command
from openk2.worlds.mcp.servers import SERVERS, is_installed

IN_FLIGHT = 16
ZONES = {"source_timezone": "Asia/Tokyo", "time": "14:30", "target_timezone": "Asia/Kathmandu"}
BARE = """
import json, sys
def put(request, result):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    match request["method"]:
        case "initialize":
            info = {"name": "bare", "version": "0"}
            version = request["params"]["protocolVersion"]
            put(request, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        case "tools/list":
            put(request, {"tools": [{"name": "say", "description": "", "inputSchema": {"type": "object"}}]})
        case "tools/call":
            put(request, {"content": [{"type": "text", "text": "hello"}]})
"""
Call = Callable[[], Awaitable[Any]]


def servers(folder: Path) -> dict[str, tuple[Command, str, dict[str, Any]]]:
    """Command, tool and arguments of each server there is."""
    found: dict[str, tuple[Command, str, dict[str, Any]]] = {
        "bare": (Command((sys.executable, "-c", BARE)), "say", {"text": "hello"})
    }
    for name, tool, arguments in (("everything", "get-sum", {"a": 1, "b": 2}), ("time", "convert_time", ZONES)):
        if is_installed(SERVERS[name]):
            found[name] = SERVERS[name].command(folder), tool, dict(arguments)
        else:
            print(f"{name} is left out: {SERVERS[name].install_line}")
    return found


async def rate(call: Call, num_calls: int, in_flight: int) -> tuple[float, float]:
    """Calls a second, and milliseconds of CPU that the client takes for one: what a busy machine does not change."""
    left = iter(range(num_calls))

    async def work() -> None:
        for _ in left:
            await call()

    began, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return num_calls / (time.perf_counter() - began), 1e3 * (time.process_time() - worked) / num_calls


async def both(command: Command, measure: Callable[[str, Call], Awaitable[None]], tool: str, given: dict) -> None:
    """One round: our client on a server of its own, then the SDK's."""
    server = Server("bench", command)
    await server.connect()
    try:
        await measure("openk2", lambda: server.call(tool, given))
    finally:
        await server.close()
    parameters = StdioServerParameters(
        command=command.argv[0], args=list(command.argv[1:]), env=dict(command.variables), cwd=command.folder
    )
    with open(os.devnull, "w") as nowhere:
        async with stdio_client(parameters, errlog=nowhere) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            await session.list_tools()
            await measure("SDK", lambda: session.call_tool(tool, given))


async def bench(num_rounds: int, num_calls: int) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """What ``rate`` gave, by server, then by client and calls in flight, for each round."""
    rates: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (command, tool, given) in servers(Path(folder)).items():
            figures: dict[str, list[tuple[float, float]]] = rates.setdefault(name, {})

            async def measure(client: str, call: Call, figures: dict[str, list[tuple[float, float]]] = figures) -> None:
                await rate(call, num_calls // 10, IN_FLIGHT)
                for in_flight in (1, IN_FLIGHT):
                    figures.setdefault(f"{client}, {in_flight}", []).append(await rate(call, num_calls, in_flight))

            for _ in range(num_rounds):
                await both(command, measure, tool, given)
    return rates


def medians(rates: dict[str, dict[str, list[tuple[float, float]]]], which: int) -> dict[str, dict[str, float]]:
    """Over the rounds, of one of the two figures."""
    return {
        name: {column: statistics.median(figures[which] for figures in rounds) for column, rounds in columns.items()}
        for name, columns in rates.items()
    }


def table(results: dict) -> str:
    """The figures in Markdown."""
    p = results["provenance"]
    lines = [
        f"`python -m bench.mcp`, commit {p['commit']}, {p['machine']}, python {p['python']}, {p['date']}.",
        f"Calls a second over stdio to one server; medians of {results['rounds']} alternating rounds of "
        f"{results['calls']} calls.",
        "In brackets the milliseconds of CPU that the client takes for a call.",
        "",
        f"| server | openk2, one by one | SDK, one by one | openk2, {IN_FLIGHT} in flight | SDK, {IN_FLIGHT} in flight |",
        "|---|---|---|---|---|",
    ]
    for name, rates in results["calls_per_second"].items():
        cpu = results["client_cpu_ms"][name]
        columns = ("openk2, 1", "SDK, 1", f"openk2, {IN_FLIGHT}", f"SDK, {IN_FLIGHT}")
        lines.append(f"| {name} | {' | '.join(f'{rates[c]:,.0f} ({cpu[c]:.2f})' for c in columns)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("results/mcp.json"), help="where to write the JSON")
    args = parser.parse_args()
    rates = asyncio.run(bench(args.rounds, args.calls))
    results = {
        "provenance": provenance(),
        "rounds": args.rounds,
        "calls": args.calls,
        "calls_per_second": medians(rates, 0),
        "client_cpu_ms": medians(rates, 1),
        "all_rounds": rates,
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
