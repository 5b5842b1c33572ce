"""What Prometheus reads: requests by outcome, times, and the engine's own counters."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openk2.engine.engine import Engine

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("openk2_requests", "Requests answered.", ["path", "status"], registry=self._registry)
        self.seconds = Histogram(
            "openk2_request_seconds", "From a request to the end of its answer.", ["path"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.first_token_seconds = Histogram(
            "openk2_first_token_seconds", "From a request to the first token of an answer.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._registry.register(_EngineFigures(engine))

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)


class _EngineFigures(Collector):
    """The engine's counters as they stand when they are read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Gauges and counters."""
        engine = self._engine
        yield GaugeMetricFamily("openk2_running", "Answers being sampled.", engine.num_running)
        yield GaugeMetricFamily("openk2_waiting", "Answers waiting for a slot.", engine.num_waiting)
        yield CounterMetricFamily("openk2_sampled_tokens", "Tokens drawn.", engine.num_sampled_tokens)
        yield CounterMetricFamily("openk2_prefill_tokens", "Prompt tokens computed.", engine.num_prefill_tokens)
        yield CounterMetricFamily("openk2_cached_tokens", "Prompt tokens found computed.", engine.num_cached_tokens)


class Measured:
    """ASGI middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one whose client left before an answer began counts as 499."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started = time.perf_counter()
        status = 499

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)
