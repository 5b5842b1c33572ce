"""The routes of a service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from openk2 import __version__
from openk2.agent import EnvFailedError
from openk2.gym.service import wire
from openk2.gym.service.config import ServiceConfig
from openk2.gym.service.episodes import Episode, Episodes, RefusedError
from openk2.gym.service.listing import Listing
from openk2.schema import JSON, Env, Message, Observation, Task, Trace

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)


class Page(BaseModel):
    """Some tasks of a split, in their order."""

    model_config = ConfigDict(extra="forbid")
    split: str
    start: NonNegativeInt = 0
    count: int = Field(default=100, ge=0, le=1000)


class Call(BaseModel):
    """A call of an episode that has begun; the first one after it began has number 1."""

    model_config = ConfigDict(extra="forbid")
    number: NonNegativeInt


class Step(Call):
    """What the assistant says."""

    message: JSON


class Scoring(Call):
    """The trace of the episode just played, without its tokens."""

    trace: JSON


class Reset(BaseModel):
    """Begin an episode."""

    model_config = ConfigDict(extra="forbid")
    family: str
    task: JSON
    seed: int


class Restore(BaseModel):
    """Begin an episode where a snapshot left it."""

    model_config = ConfigDict(extra="forbid")
    family: str
    state: str


class Close(BaseModel):
    """End an episode."""

    model_config = ConfigDict(extra="forbid")


def make_app(
    make_env: Callable[[str], Env], families: Sequence[str], config: ServiceConfig, say: Callable[[str], None]
) -> FastAPI:
    """An application that plays episodes of ``families``, each in an environment that ``make_env`` makes.

    ``say`` gets a line when it has stopped. It belongs in a process's main thread. Raises ValueError elsewhere, and what ``make_env`` raises for a family it cannot make.
    """
    resumable = {family: make_env(family).resumable for family in families}
    episodes, listing = Episodes(make_env, config), Listing(make_env, config.call_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(episodes.close_idle())
        yield
        sweeping.cancel()
        num_closed = await episodes.close_all()
        say(f"stopped; {num_closed} episodes were closed")

    # No /docs: its page loads scripts from elsewhere.
    app = FastAPI(title="openk2 environments", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    # A web page elsewhere can bind a name of its own to this machine, but not make a browser send another's.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    for kind in (RefusedError, EnvFailedError, HTTPException, Exception):
        app.add_exception_handler(kind, _told)

    def known(family: str) -> str:
        if family not in resumable:
            raise RefusedError(404, f"no family {family!r} here; there are {', '.join(resumable)}")
        return family

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"families": resumable, "alive": episodes.num_alive, "counters": episodes.counters})

    @app.get("/families/{family}/tasks")
    async def tasks(request: Request, family: str) -> Response:
        asked = _fitting(Page, dict(request.query_params))
        return _answer(wire.encode(await listing.page(known(family), asked.split, asked.start, asked.count)))

    @app.post("/episodes/{episode_id}/reset")
    async def reset(request: Request, episode_id: str) -> Response:
        body = await _read(request, Reset, config)
        task = _parsed(Task.from_json, body.task, "task")

        async def act(episode: Episode) -> bytes:
            return _shown(episode, await episode.env.reset(task, body.seed))

        return _answer(await episodes.begin(episode_id, known(body.family), act))

    @app.post("/episodes/{episode_id}/restore")
    async def restore(request: Request, episode_id: str) -> Response:
        body = await _read(request, Restore, config)
        state = _parsed(wire.state_from_json, {"state": body.state}, "state")

        async def act(episode: Episode) -> bytes:
            episode.env.restore(state)
            return b"{}"

        return _answer(await episodes.begin(episode_id, known(body.family), act))

    @app.post("/episodes/{episode_id}/step")
    async def step(request: Request, episode_id: str) -> Response:
        body = await _read(request, Step, config)
        message = _parsed(Message.from_json, body.message, "message")

        async def act(episode: Episode) -> bytes:
            return _shown(episode, await episode.env.step(message))

        return _answer(await episodes.call(episode_id, body.number, act))

    @app.post("/episodes/{episode_id}/score")
    async def score(request: Request, episode_id: str) -> Response:
        body = await _read(request, Scoring, config)
        trace = _parsed(Trace.from_json, body.trace, "trace")

        async def act(episode: Episode) -> bytes:
            return wire.encode(wire.score_to_json(await episode.env.score(trace)))

        return _answer(await episodes.call(episode_id, body.number, act))

    @app.post("/episodes/{episode_id}/snapshot")
    async def snapshot(request: Request, episode_id: str) -> Response:
        body = await _read(request, Call, config)

        async def act(episode: Episode) -> bytes:
            return wire.encode(wire.state_to_json(episode.env.snapshot()))

        return _answer(await episodes.call(episode_id, body.number, act))

    @app.post("/episodes/{episode_id}/close")
    async def close(request: Request, episode_id: str) -> Response:
        await _read(request, Close, config)
        await episodes.close(episode_id)
        return _answer(b"{}")

    return app


def _shown(episode: Episode, given: object) -> bytes:
    """An observation as a body; remembers which tools the client has seen."""
    body = wire.encode(wire.observation_to_json(given, episode.tools))
    assert isinstance(given, Observation)
    episode.tools = given.tools
    return body


async def _read(request: Request, kind: type[Body], config: ServiceConfig) -> Body:
    """A request's body. Raises RefusedError for one that is too large or too slow, and for what is wrong with it."""
    if (content := request.headers.get("content-type")) != "application/json":
        raise RefusedError(415, f"the content type must be application/json, it is {content}")
    data = bytearray()
    try:
        async with asyncio.timeout(config.body_seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > config.body_bytes:
                    raise RefusedError(413, f"the body is larger than {config.body_bytes} bytes")
    except ClientDisconnect:
        raise RefusedError(400, "the body broke off") from None  # nobody hears it
    except TimeoutError:
        raise RefusedError(408, f"the body did not arrive within {config.body_seconds:g} s") from None
    try:
        given = json.loads(data)  # pydantic's own reader takes no lone surrogates, which a model may write
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}") from error
    return _fitting(kind, given)


def _fitting(kind: type[Body], given: object) -> Body:
    """What was asked. Raises RefusedError with the first thing wrong with it."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(400, f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}") from error


def _parsed(read: Callable[[Any], T], data: JSON, name: str) -> T:
    """What ``data`` stands for. Raises RefusedError where it stands for nothing."""
    try:
        return read(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(400, f"{name}: it cannot be read: {type(error).__name__} {error}") from error


def _answer(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def _told(_: Request, error: Exception) -> Response:
    """``{"error": {message, trouble}}``; ``trouble`` is null where no environment is to blame."""
    trouble, told = None, str(error)
    match error:
        case EnvFailedError():
            status, trouble = 502, error.trouble
        case RefusedError():
            status = error.status
        case HTTPException():
            status, told = error.status_code, error.detail
        case _:
            status, told = 500, "the service failed; its log says why"
    return JSONResponse({"error": {"message": told, "trouble": trouble}}, status)
