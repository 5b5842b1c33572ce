"""What reasoning-gym's datasets say of their own answers, of none, of wrong and of hedged ones; and what the adapter makes of it.

python -m bench.adapters --python PYTHON_WITH_REASONING_GYM
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openk2.gym.adapters.config import ReasoningGymConfig
from openk2.gym.adapters.guest import GUESTS, Guest, GuestError
from openk2.gym.adapters.reasoning_gym import FORMS, PACKAGE, REFUSED, SAME, reasoning_gym
from openk2.jobs.atomic import read_json, write_json, write_text
from openk2.jobs.provenance import provenance
from openk2.schema import Message, Task, Trace

NUM = 6  # entries of each dataset
SEED = 7
MAKE_S, LIMIT_S = 600.0, 10.0


def answers(own: Any, other: Any, question: str) -> dict[str, list[str | None]]:
    """What is answered, by what it should earn."""
    return {
        "gold": [own],
        "null": [None, "", "I solved it; the answer is correct.", question, f"not {own}"],
        "hedged": [f"{own} or {other}", f"{other} or {own}", f"{own}, {other}", f"{own}\n{other}"],
        "other": [other],
    }


def examine(name: str, guest: Guest, python: str) -> dict[str, Any]:
    """The shares that full marks were given to: by the dataset itself, and by the adapter; the seconds to make an entry."""
    began = time.perf_counter()
    source = {"name": name, "seed": SEED, "size": NUM, "options": {}}
    try:
        entries = guest.ask_now("entries", MAKE_S, **source)
    except GuestError as error:
        return {"broken": str(error)}
    found: dict[str, Any] = {"make_s": (time.perf_counter() - began) / NUM, "raised": 0}
    full: dict[str, list[float]] = {kind: [] for kind in answers("", "", "")}
    for index, entry in enumerate(entries):
        own, question = entry["answer"], entry["question"]
        other = next((each["answer"] for each in entries if each["answer"] != own), "nothing")
        for kind, given in answers(own, other, question).items():
            for answer in given:
                try:
                    marks = guest.ask_now("score", LIMIT_S, **source, index=index, answer=answer)
                except GuestError:
                    marks, found["raised"] = 0.0, found["raised"] + 1
                full[kind].append(marks)
    found["own"] = {kind: sum(mark >= 1 for mark in marks) / len(marks) for kind, marks in full.items()}
    found["own_most_for_null"] = max(full["null"])
    if name not in REFUSED:
        found["ours"] = asyncio.run(
            judged(ReasoningGymConfig(dataset=name, seed=SEED, size=NUM, python=python, make_s=MAKE_S))
        )
        found["judged"] = "the answer itself" if name in SAME else "form, then its own" if name in FORMS else "its own"
    return found


async def judged(config: ReasoningGymConfig) -> dict[str, float]:
    """The shares that earn 1 through the environment."""
    env = reasoning_gym(config)
    tasks: Sequence[Task] = [*env.tasks("train"), *env.tasks("heldout")]
    passed: dict[str, list[float]] = {kind: [] for kind in answers("", "", "")}
    for task in tasks:
        own = task.payload["answer"]
        other = next((each.payload["answer"] for each in tasks if each.payload["answer"] != own), "nothing")
        for kind, given in answers(own, other, task.payload["question"]).items():
            for answer in given:
                await env.reset(task, 0)
                await env.step(Message("assistant", "" if answer is None else f"<answer>{answer}</answer>"))
                passed[kind].append((await env.score(Trace("", task.id, 0, "", [], [], []))).total)
    return {kind: sum(each) / len(each) for kind, each in passed.items()}


def table(results: Mapping[str, Any]) -> str:
    """All datasets, those refused included."""
    lines = [
        "# reasoning-gym through the adapter",
        "",
        f"{NUM} entries of each dataset, seed {SEED}: the share of replies given full marks, by the dataset's own `score_answer` and by "
        'the adapter. Gold is the entry\'s own answer; null is nothing, a claim, the question, or "not" and the answer; hedged is the '
        "answer with a wrong one, in four forms; other is another entry's answer (which may be right here too).",
        "",
        f"{results['num_good']} of {len(results['datasets'])} datasets give gold 1 and null and hedged 0; {results['num_refused']} are refused.",
        "",
        "| dataset | own: gold | null | hedged | other | most for null | adapter: gold | null | hedged | other | judged by | s / entry |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results["datasets"].items():
        own = [f"{found['own'][kind]:.2f}" for kind in found["own"]] if "own" in found else ["-"] * 4
        ours = [f"{found['ours'][kind]:.2f}" for kind in found["ours"]] if "ours" in found else ["-"] * 4
        judge = found.get("judged", f"refused: {REFUSED.get(name)}")
        most = f"{found['own_most_for_null']:.2f}" if "own" in found else "-"
        seconds = f"{found['make_s']:.2f}" if "make_s" in found else "-"
        lines.append("| " + " | ".join([name, *own, most, *ours, judge, seconds]) + " |")
    return "\n".join([*lines, "", ", ".join(f"{key} {value}" for key, value in results["provenance"].items())]) + "\n"


def good(found: Mapping[str, Any]) -> bool:
    """Whether the adapter's verdicts are those one wants."""
    ours = found.get("ours")
    return ours is not None and (ours["gold"], ours["null"], ours["hedged"]) == (1.0, 0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has reasoning-gym")
    parser.add_argument(
        "--only", nargs="*", default=[], help="measure these datasets again, and keep the rest as recorded"
    )
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    guest = Guest(GUESTS / "reasoning_gym.py", PACKAGE, options.python)
    names = guest.ask_now("names", LIMIT_S)
    datasets = read_json(options.out / "adapters.json")["datasets"] if options.only else {}
    for name in options.only or names:
        datasets[name] = examine(name, guest, options.python)
        print(name, "good" if good(datasets[name]) else datasets[name], flush=True)
    results = {
        "provenance": {**provenance(), "reasoning-gym": guest.ask_now("version", LIMIT_S)},
        "num_good": sum(map(good, datasets.values())),
        "num_refused": sum(name in REFUSED for name in datasets),
        "datasets": datasets,
    }
    write_json(options.out / "adapters.json", results)
    write_text(options.out / "adapters.md", table(results))


if __name__ == "__main__":
    main()
