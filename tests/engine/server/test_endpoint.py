"""Our own server as the endpoint of our own client."""

from __future__ import annotations

import asyncio
import json

from openk2.llm.config import EndpointConfig
from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured
from openk2.schema import Message, Sampling, ToolSpec
from tests.engine.server.conftest import Running

PARAMETERS = {
    "type": "object",
    "properties": {"order": {"type": "string", "enum": ["K-1", "K-2"]}, "rush": {"type": "boolean"}},
    "required": ["order", "rush"],
    "additionalProperties": False,
}
TOOL = ToolSpec("get_order", "Look up.", PARAMETERS)


def test_a_round_trip_with_tools(server: Running) -> None:
    config = EndpointConfig(
        base_url=server.address + "/v1", model="tiny", extra={"tool_choice": "required", "parallel_tool_calls": False}
    )

    async def talk() -> tuple[Message, Message]:
        dialogue = [Message("user", "Where is order K-1?")]
        async with Endpoint(config) as endpoint:
            first = await endpoint.complete(dialogue, [TOOL], Sampling(max_tokens=200, seed=1))
            result = Message("tool", '{"state": "shipped"}', tool_call_id=first.tool_calls[0].id, name="get_order")
            second = await endpoint.complete([*dialogue, first, result], [TOOL], Sampling(max_tokens=200, seed=1))
            assert endpoint.counters.answered == 2
            assert endpoint.counters.retried == {}
            assert endpoint.counters.completion_tokens > 2
            return first, second

    first, second = asyncio.run(talk())
    for number, message in enumerate((first, second)):
        (call,) = message.tool_calls
        assert call.id == f"functions.get_order:{number}"  # the server has read the first call and its result
        assert call.error is None
        assert json.loads(call.arguments)["order"] in ("K-1", "K-2")


def test_an_object_by_schema(server: Running) -> None:
    async def ask() -> object:
        async with Endpoint(EndpointConfig(base_url=server.address + "/v1", model="tiny")) as endpoint:
            form = Form.plain("order", PARAMETERS)
            filled = await structured(endpoint, [Message("user", "an order")], form, Sampling(max_tokens=200))
            assert len(filled.attempts) == 1  # the server's grammar leaves nothing to repair
            return filled.value

    value = asyncio.run(ask())
    assert isinstance(value, dict)
    assert set(value) == {"order", "rush"}
