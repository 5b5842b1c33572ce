"""A trajectory as text for the terminal."""

from __future__ import annotations

import re

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from openk2.schema import JSON
from openk2.view.trace import STYLES
from openk2.view.trajectories.record import Trajectory
from openk2.view.trajectories.story import story

MARKS = {"passed": "bold green", "failed": "bold red", "rejected": "bold red", "not judged": "yellow"}
# What moves a cursor, rings a bell or turns the direction is shown, not obeyed; half a surrogate pair cannot be printed.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Text that a terminal only prints: controls become signs for themselves."""
    return _CONTROLS.sub(
        lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\N{REPLACEMENT CHARACTER}", text
    )


def render_trajectory(trajectory: Trajectory) -> RenderableType:
    """Head, turns with their calls, results, changes and faults, then the verdict with each item of the rubric."""
    told = story(trajectory)
    head = "  ·  ".join(str(part) for part in (told["id"], told["split"], told["kind"], *told["tags"]) if part)
    parts: list[RenderableType] = [Rule(_text(head), align="left", style="dim")]
    for role in ("agent", "user"):
        if told[role]:
            about = "  ".join(f"{name} {value}" for name, value in told[role].items())
            parts += [_text(f"{role}: {about}", "dim"), Text()]
    for turn in told["turns"]:
        parts += [_turn(turn), Text()]
    parts += [_call(call) for call in told["without_turn"]]
    return Group(*parts, _verdict(told))


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def _indented(thing: RenderableType, by: int = 2) -> Padding:
    return Padding(thing, (0, 0, 0, by))


def _turn(turn: JSON) -> RenderableType:
    parts: list[RenderableType] = [_text(turn["role"], STYLES[turn["role"]])]
    if turn["content"]:
        parts.append(_indented(_text(turn["content"], "dim" if turn["role"] in ("system", "tool") else "")))
    return Group(*parts, *(_indented(_call(call)) for call in turn["calls"]))


def _call(call: JSON) -> RenderableType:
    head = _text(call["name"], "bold cyan").append(" ").append(visible(call["arguments"] or ""), "cyan")
    parts: list[RenderableType] = [head]
    if call["fault"]:
        parts.append(_indented(_text(f"fault: {call['fault']}", "yellow")))
    if call["result"] is not None:
        parts.append(_indented(_text(f"→ {call['result']}", "dim")))
    for change in call["changes"]:
        before = "" if change["before"] is None else f"{change['before']} → "
        line = f"± {change['record']} {change['field']}: {before}{change['after']}"
        parts.append(_indented(_text(line, "magenta")))
    return Group(*parts)


def _verdict(told: JSON) -> Text:
    text = _text(told["outcome"], MARKS[told["outcome"]])
    if told["stage"]:
        text.append(visible(f" at {told['stage']}: {told['reason']}"))
    if told["score"] is not None:
        text.append(f"  score {told['score']:.4g}")
    for item in told["rubric"]:
        value = item["value"]
        mark, style = ("·", "dim") if value is None else ("✓", "green") if value >= 1 else ("✗", "red")
        text.append(visible(f"\n  {mark} {item['name']}"), style).append(
            visible(f"  {item['check']} {item['spec']}"), "dim"
        )
    return text
