"""A dataset's card: what is in it, how it was made and what it does not show. Markdown below a YAML header."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from openk2.schema import JSON
from openk2.view.trajectories.record import Trajectory

MOST_SHOWN = 20
PARTS = ("author", "users", "teacher", "judge")  # who made a record may be said part by part
_MAKERS = (*PARTS, "model", "version", "recipe")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass
class Census:
    """Counts over the trajectories of a dataset."""

    by_split: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    declared: set[str] = field(default_factory=set)
    called: Counter[str] = field(default_factory=Counter)
    made_by: Counter[str] = field(default_factory=Counter)
    authors: set[str] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    apps: set[str] = field(default_factory=set)
    lengths: dict[str, list[int]] = field(default_factory=lambda: {"calls": [], "turns": [], "messages": []})
    faults_by_sort: Counter[str] = field(default_factory=Counter)
    players: dict[str, set[str]] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, trajectory: Trajectory, split: str) -> None:
        """Count one."""
        made = trajectory.provenance or {}
        self.by_split[split] += 1
        self.passed[split] += trajectory.outcome == "passed"
        self.calls[split] += trajectory.num_calls
        self.faults[split] += any(called.fault for called in trajectory.calls)
        self.kinds[trajectory.kind or "none given"] += 1
        self.declared.update(tool.function.name for tool in trajectory.tools)
        self.called.update(trajectory.called)
        self.made_by[", ".join(f"{name} {made[name]}" for name in _MAKERS if made.get(name))] += 1
        self.authors.add(str(made.get("author", "")))
        for part in PARTS:
            if made.get(part):
                self.players.setdefault(part, set()).add(str(made[part]))
        if made.get("model"):
            self.models.add(str(made["model"]))
        if trajectory.stage is None:
            self._measure(trajectory)
        if made.get("license"):
            self.licences.add(str(made["license"]))

    def _measure(self, trajectory: Trajectory) -> None:
        """How long one is that was kept, and what it met."""
        self.tasks.add(trajectory.id.partition("#")[0])
        self.apps.update(map(str, (trajectory.agent or {}).get("apps", ())))
        self.lengths["calls"].append(len(trajectory.calls) or trajectory.num_calls)
        self.lengths["turns"].append(sum(message.role == "user" for message in trajectory.messages))
        self.lengths["messages"].append(len(trajectory.messages))
        self.faults_by_sort.update(called.fault for called in trajectory.calls if called.fault)


def card(name: str, census: Census, files: Mapping[str, str], funnel: JSON | None = None) -> str:
    """The whole card. ``files`` names the file of each split; ``funnel`` is what a ``funnel.json`` holds."""
    sections = [
        f"# {_plain(name)}",
        f"{census.by_split.total():,} tool-use trajectories; {census.passed.total():,} of them passed their rubric.",
        _splits(census),
        *([_figures(census)] if census.tasks else []),
        _counted("Kinds", "kind", census.kinds),
        _tools(census),
        _how_made(census),
        *([_yield(funnel)] if funnel else []),
        *([_left_out(census.left_out)] if census.left_out else []),
        _limits(census),
    ]
    return _header(name, census, files) + "\n" + "\n\n".join(sections) + "\n"


def _header(name: str, census: Census, files: Mapping[str, str]) -> str:
    """YAML, whose strings are JSON's."""
    num = census.by_split.total()
    licence = (
        census.licences.copy().pop().lower()
        if len(census.licences) == 1
        else "unknown"
        if not census.licences
        else "other"
    )
    lines = [
        "---",
        f"pretty_name: {json.dumps(name)}",
        f"license: {json.dumps(licence)}",
        'language: ["en"]',
        'task_categories: ["text-generation"]',
        'tags: ["tool-use", "agent", "synthetic"]',
        f"size_categories: [{json.dumps(next((words for most, words in _SIZES if num < most), '1M<n<10M'))}]",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    for split, file in files.items():
        lines += [f"  - split: {json.dumps(split)}", f"    path: {json.dumps(file)}"]
    return "\n".join([*lines, "---", ""])


def _splits(census: Census) -> str:
    rows = [
        (
            split,
            f"{num:,}",
            f"{census.passed[split]:,}",
            f"{census.calls[split] / num:.2f}",
            f"{census.faults[split]:,}",
        )
        for split, num in census.by_split.items()
    ]
    return "## Splits\n\n" + _table(("split", "trajectories", "passed", "calls each", "met a fault"), rows)


def _figures(census: Census) -> str:
    """Of what was kept: how much there is, how long it is, which faults it met."""
    rows = [("tasks", f"{len(census.tasks):,}")]
    if census.apps:
        rows.append(("apps", f"{len(census.apps):,}"))
    for what, numbers in census.lengths.items():
        told = f"{statistics.mean(numbers):.1f} / {statistics.median(numbers):g} / {max(numbers):,}"
        rows.append((f"{what} of a trajectory: mean / median / most", told))
    rows += [(f"calls met by the fault {sort}", f"{num:,}") for sort, num in _ranked(census.faults_by_sort)]
    return "## Figures\n\nOf the trajectories that were not turned away:\n\n" + _table(("what", "how much"), rows)


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first, those of equal number by name: the card is the same each time."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _counted(title: str, what: str, counts: Counter[str]) -> str:
    rows = [(value, f"{num:,}") for value, num in _ranked(counts)[:MOST_SHOWN]]
    more = len(counts) - len(rows)
    rest = f"\n\nand {more} more." if more > 0 else ""
    return f"## {title}\n\n" + _table((what, "trajectories"), rows) + rest


def _tools(census: Census) -> str:
    text = f"{len(census.declared):,} names of tools are declared, {len(census.called):,} are called.\n\n"
    return _counted("Tools called", "tool", census.called).replace("\n\n", f"\n\n{text}", 1)


def _how_made(census: Census) -> str:
    rows = [(made or "not said", f"{num:,}") for made, num in _ranked(census.made_by)[:MOST_SHOWN]]
    licences = ", ".join(sorted(census.licences)) or "none is stated in the records; state one before publishing"
    about = (
        "Tools really execute; a rubric of programmatic checks on the final state, the calls and the answer decides."
    )
    return (
        f"## How it was made\n\n{about}\n\n"
        + _table(("provenance", "trajectories"), rows)
        + f"\n\nLicences: {_plain(licences)}."
    )


def _yield(funnel: JSON) -> str:
    rows = [
        (
            stage,
            f"{found['kept']:,}",
            f"{found['rejected']:,}",
            "; ".join(f"{n} × {why}" for why, n in list(found["reasons"].items())[:3]),
        )
        for stage, found in funnel.items()
    ]
    return "## Yield\n\n" + _table(("stage", "kept", "rejected", "most frequent reasons"), rows)


def _left_out(reasons: Counter[str]) -> str:
    return "## Left out\n\nThe format has no words for these:\n\n" + _table(
        ("reason", "trajectories"), [(reason, f"{num:,}") for reason, num in _ranked(reasons)]
    )


def _limits(census: Census) -> str:
    lines = ["- Worlds are synthetic: no person, account or order in them exists."]
    if "scripted" in census.authors and not census.models:
        lines.append(
            "- A scripted author wrote these: a procedure with templates, not a language model. They show neither diverse"
            " language nor how a judge model would do."
        )
    if census.models:
        parts = ", ".join(part for part, players in census.players.items() if "endpoint" in players)
        lines.append(
            f"- {_plain(', '.join(sorted(census.models)))} played {parts}: its provider's terms hold for that text beside the "
            "licence, and what it wrote was checked for values and outcome, not for truth, taste or bias."
        )
    if scripted := [part for part, players in census.players.items() if "scripted" in players and census.models]:
        lines.append(f"- Scripted, so from templates: {', '.join(scripted)}.")
    if missed := census.by_split.total() - census.passed.total():
        lines.append(f"- {missed:,} trajectories did not pass their rubric, or were not judged.")
    return "## Limits\n\n" + "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text on one line that is no markup, whatever a record holds."""
    line = " ".join(text.split())[:120]
    return "".join(f"\\{c}" if c in "\\`*[]<>|#" else c for c in line)
