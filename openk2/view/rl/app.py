"""The live page and what it asks for."""

from __future__ import annotations

import threading
import time
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from openk2.schema import JSON
from openk2.view import loopback
from openk2.view.loopback import Ascii, refusal
from openk2.view.rl import figures, panels
from openk2.view.rl.read import Learning

PAGE = files(__package__).joinpath("page.html").read_text(encoding="utf-8").replace(
    "/* chart.css */", files("openk2.view").joinpath("chart.css").read_text(encoding="utf-8")
)  # fmt: skip
ROWS = 40


class Looking(BaseModel):
    """What the reader looks at. None: all families, the newest steps."""

    model_config = ConfigDict(extra="forbid")

    family: str | None = None
    step: int | None = Field(None, ge=0)


class Asking(Looking):
    """The figures, unless nothing has changed ``since`` a revision."""

    since: int | None = None


class Listing(Looking):
    """A page of a list of traces."""

    order: str = Field("worst", pattern="^(worst|best)$")
    page: int = Field(0, ge=0)


class Opening(BaseModel):
    """One trace of a step."""

    model_config = ConfigDict(extra="forbid")

    step: int = Field(ge=0)
    place: int = Field(ge=0)


def application(learning: Learning) -> FastAPI:
    """The page over a run that may be going on: every question reads what has been written since."""
    app = loopback.application("openk2 watch", PAGE)
    reading = threading.Lock()  # requests come in threads
    revision = time.time_ns() // 1_000_000  # a page outlives its server: another one's revisions are others

    def read_on() -> int:
        nonlocal revision
        revision += learning.poll()
        return revision

    @app.get("/api/figures")
    def figures_now(asked: Annotated[Asking, Query()]) -> Response:
        with reading:
            now = {"revision": read_on(), "finished": learning.finished, "quiet_seconds": learning.seconds_since()}
            if asked.since == now["revision"]:
                return Ascii(now)
            return Ascii({**now, **_figures(learning, asked)})

    @app.get("/api/traces")
    def traces(asked: Annotated[Listing, Query()]) -> Response:
        with reading:
            read_on()
            rollouts = learning.rollouts
            among = figures.newest_traces(rollouts) if asked.step is None else rollouts.of(asked.step)
            found = figures.ranked(among, family=asked.family, best=asked.order == "best")
        start = asked.page * ROWS
        rows = [panels.row(rollout) for rollout in found[start : start + ROWS]]
        return Ascii({"count": len(found), "start": start, "rows": rows})

    @app.get("/api/trace")
    def trace(asked: Annotated[Opening, Query()]) -> Response:
        with reading:
            found = learning.rollouts.of(asked.step)
            if asked.place >= len(found):
                return refusal(404, f"step {asked.step} has {len(found)} traces: there is no number {asked.place}")
            rollout = found[asked.place]
            return Ascii(panels.story(rollout, learning.rollouts.trace(rollout)))

    return app


def _figures(learning: Learning, asked: Looking) -> JSON:
    metrics, steps = learning.metrics, learning.rollouts.steps
    return {
        "name": learning.name,
        "num_steps": len(metrics),
        "last_step": int(metrics.steps[-1]) if len(metrics) else None,
        "num_damaged": learning.num_damaged,
        "newest": figures.newest(metrics),
        "families": panels.family_panels(metrics),
        "course": panels.course_panels(metrics, asked.family),
        "time": panels.time_panel(learning.time_line, asked.step),
        "counters": figures.counters(metrics),
        "trace_steps": [steps[0], steps[-1]] if steps else None,
    }
