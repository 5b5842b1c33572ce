"""A scripted endpoint and a client for it."""

import asyncio

from openk2.llm.config import EndpointConfig
from openk2.llm.endpoint import Endpoint
from tests.llm.server import ChatServer


def asking(rule, use):
    """Run ``use(endpoint)`` against a server that answers by ``rule``; its result, and the bodies the server got."""

    async def run(base_url):
        async with Endpoint(EndpointConfig(base_url=base_url, model="m", max_attempts=2, backoff_s=0.01)) as endpoint:
            return await use(endpoint)

    with ChatServer(rule) as server:
        return asyncio.run(run(server.base_url)), server.bodies


def prompt(body):
    """All that the model was told."""
    return "\n".join(message["content"] for message in body["messages"])
