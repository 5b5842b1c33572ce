"""Server-sent events: a stream that has begun can still say what went wrong, and always ends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from openk2.engine.engine import EngineError
from openk2.engine.server.errors import ApiError, from_failure

JSON = dict[str, Any]


class EventStream(StreamingResponse):
    """Chunks as events, then ``[DONE]``. A failure on the way is the last event before it."""

    def __init__(self, first: JSON, chunks: AsyncGenerator[JSON, None]) -> None:
        """``first`` was made before the stream began, so that what is refused gets a status of its own."""
        self._chunks = chunks
        headers = {"Cache-Control": "no-store"}
        super().__init__(_events(first, chunks), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; ``chunks`` is closed at once when the client leaves."""
        async with aclosing(self._chunks):
            await super().__call__(scope, receive, send)


async def _events(first: JSON, chunks: AsyncGenerator[JSON, None]) -> AsyncIterator[str]:
    yield _event(first)
    try:
        async for chunk in chunks:
            yield _event(chunk)
    except (ApiError, EngineError, TimeoutError) as error:
        yield _event(from_failure(error).body())
    yield "data: [DONE]\n\n"


def _event(data: JSON) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n"
