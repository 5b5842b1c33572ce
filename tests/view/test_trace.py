from __future__ import annotations

import io

from rich.console import Console, RenderableType

from openk2.schema import CallError, Message, Score, ToolCall, Trace
from openk2.view.trace import render_message, render_trace


def shown(thing: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(thing)
    return out.getvalue()


def test_a_trace_reads_as_a_conversation() -> None:
    good = ToolCall("functions.find:0", "find", '{"name": "Mira"}')
    bad = ToolCall("functions.find:1", "find", '{"name": ', CallError.TRUNCATED)
    messages = [
        Message("user", "Who is Mira?"),
        Message("assistant", "Let me see.", [good]),
        Message("tool", '{"found": [1, 2]}', tool_call_id=good.id),
        Message("assistant", "", [bad]),
    ]
    trace = Trace("x", "contacts-1", 7, "", [], messages, [], "malformed", Score(0.5, {"named": 0.0, "looked_up": 1.0}))
    text = shown(render_trace(trace))
    order = ["contacts-1", "user", "Who is Mira?", "assistant", 'find {"name": "Mira"}', "tool", '{"found": [1, 2]}']
    order += ["malformed (truncated) find", "failed", "score 0.5", "✗ named", "✓ looked_up"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_an_unjudged_trace_says_so() -> None:
    assert "not judged" in shown(render_trace(Trace("x", "t", 0, "", [], [], [])))


def test_what_looks_like_markup_stays_text() -> None:
    assert "[red]stop[/red] [/nothing]" in shown(render_message(Message("user", "[red]stop[/red] [/nothing]")))
