"""A trace, or one message of it, as text for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from openk2.schema import Message, ToolCall, Trace
from openk2.view.json_text import pretty_json

STYLES = {"system": "dim", "user": "bold blue", "assistant": "bold green", "tool": "dim"}


def render_message(message: Message) -> RenderableType:
    """One turn: who speaks, what is said, and each tool call. Nothing in it is read as markup."""
    parts: list[RenderableType] = [Text(message.role, style=STYLES[message.role])]
    if message.content:
        content = pretty_json(message.content) if message.role == "tool" else message.content
        parts.append(Padding(Text(content, style="dim" if message.role in ("system", "tool") else ""), (0, 0, 0, 2)))
    parts += [Padding(render_call(call), (0, 0, 0, 2)) for call in message.tool_calls]
    return Group(*parts)


def render_call(call: ToolCall) -> Text:
    """A tool call as ``name {arguments}``; a malformed one says what is wrong with it."""
    text = Text()
    if call.error is not None:
        text.append(f"malformed ({call.error.value}) ", style="red")
    return text.append(call.name, style="bold cyan").append(" ").append(pretty_json(call.arguments), style="cyan")


def render_trace(trace: Trace) -> RenderableType:
    """A whole episode: its turns, then the verdict with the parts of the score."""
    parts: list[RenderableType] = [Rule(Text(f"{trace.task_id}  ·  seed {trace.seed}"), align="left", style="dim")]
    for message in trace.messages:
        parts += [render_message(message), Text()]
    return Group(*parts, _verdict(trace))


def _verdict(trace: Trace) -> Text:
    text = Text()
    if trace.score is None:
        text.append("not judged", style="yellow")
    else:
        passed = trace.score.passed
        text.append("passed" if passed else "failed", style="bold green" if passed else "bold red")
        text.append(f"  score {trace.score.total:.4g}")
    text.append(f"  {trace.stop_reason or 'no stop reason'}  {trace.num_sampled} tokens", style="dim")
    for name, value in trace.score.parts.items() if trace.score else ():
        text.append(f"\n  {'✓' if value >= 1 else '✗'} {name}", style="green" if value >= 1 else "red")
    if "error" in trace.info:
        text.append(f"\n  {trace.info['error']}", style="red")
    return text
