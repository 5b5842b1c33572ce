"""A chat endpoint over real HTTP that answers by rule, and fails a share of its calls by seed.

python -m tests.llm.server --failing 0.1 --latency 0.05     (prints its address)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

Rule = Callable[[dict[str, Any]], str | dict[str, Any] | Response]
KINDS = ("unavailable", "rate_limited", "timed_out", "cut", "bad_body")


def echo(body: dict[str, Any]) -> str:
    return f"echo: {body['messages'][-1]['content']}"


@dataclass(frozen=True)
class Failures:
    """Which share of calls fails, how long a hanging one hangs, and what a 429 asks to wait (seconds)."""

    share: float = 0.0
    seed: int = 0
    hang_s: float = 2.0
    retry_after_s: float = 0.1
    kinds: tuple[str, ...] = KINDS


class ChatServer:
    """A server on a free port, in a thread of its own. ``bodies`` and ``headers`` are what it was sent."""

    def __init__(self, rule: Rule = echo, failures: Failures = Failures(), latency_s: float = 0.0) -> None:
        self._rule, self._failures, self._latency_s = rule, failures, latency_s
        self._num_calls = 0
        self.failed: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.num_open = self.most_open = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = FastAPI()
        app.add_api_route("/v1/chat/completions", self._chat, methods=["POST"], response_model=None)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self.run)

    def run(self) -> None:
        self.server.run(sockets=[self._socket])

    def __enter__(self) -> ChatServer:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < deadline, "waited 10 s for the chat server to start"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()
        self._socket.close()

    async def _chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        number, self._num_calls = self._num_calls, self._num_calls + 1
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            return await self._answer(body, Random(f"{self._failures.seed}/{number}"))
        finally:
            self.num_open -= 1

    async def _answer(self, body: dict[str, Any], rng: Random) -> Response:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        if rng.random() >= self._failures.share:
            said = self._rule(body)
            if isinstance(said, Response):
                return said
            return Response(completion(body, said), media_type="application/json")
        kind = rng.choice(self._failures.kinds)
        self.failed[kind] += 1
        match kind:
            case "unavailable":
                return error(503, "overloaded")
            case "rate_limited":
                return error(429, "slow down", {"Retry-After": str(self._failures.retry_after_s)})
            case "timed_out":
                await asyncio.sleep(self._failures.hang_s)
            case "cut":
                return StreamingResponse(half(completion(body, "cut")), media_type="application/json")
            case "bad_body":
                return Response(b'{"choices": [{"mess', media_type="application/json")
        return error(500, "hung")


def completion(body: dict[str, Any], said: str | dict[str, Any]) -> bytes:
    """The body of an answer: a text, or a whole message."""
    message = {"role": "assistant", "content": said} if isinstance(said, str) else {"role": "assistant", **said}
    reason = message.pop("finish_reason", "tool_calls" if message.get("tool_calls") else "stop")
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }).encode()  # fmt: skip


def error(status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None) -> Response:
    body = json.dumps({"error": {"message": message, "type": "server_error", "code": code}})
    return Response(body, status, headers, "application/json")


async def half(body: bytes) -> AsyncIterator[bytes]:
    """The first half, then a connection that breaks."""
    yield body[: len(body) // 2]
    await asyncio.sleep(0)
    raise ConnectionError("cut on purpose")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failing", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--hang", type=float, default=2.0)
    args = parser.parse_args()
    served = ChatServer(echo, Failures(args.failing, args.seed, args.hang), args.latency)
    print(served.base_url, flush=True)
    served.run()


if __name__ == "__main__":
    main()
