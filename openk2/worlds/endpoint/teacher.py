"""A chat model as the agent of a scenario: it reads, calls, answers, and never sees the plan."""

from __future__ import annotations

from openk2.llm.endpoint import Endpoint
from openk2.schema import Message, Sampling, ToolCall
from openk2.worlds.scenario.conversation import Conversation

# Messages of the agent: so many for each call and answer of the plan, and some to look around.
_EACH, _MORE = 3, 10


async def play(endpoint: Endpoint, conversation: Conversation, sampling: Sampling) -> list[Message]:
    """The conversation, to its end or to the limit of messages. Raises what ``Endpoint.complete`` raises."""
    scenario = conversation.scenario
    messages, count = conversation.opening(), 0
    for _ in range(_EACH * (scenario.num_calls + len(scenario.turns)) + _MORE):
        said = await endpoint.complete(messages, scenario.tools, sampling)
        # Servers number calls in their own ways, some from 0 in every message: here an id is there once.
        calls = [
            ToolCall(f"functions.{call.name}:{count + i}", call.name, call.arguments, call.error)
            for i, call in enumerate(said.tool_calls)
        ]
        count += len(calls)
        messages.append(Message("assistant", said.content, calls))
        messages += conversation.call(calls) if calls else conversation.answer(said.content)
        if conversation.ended:
            break
    return messages
