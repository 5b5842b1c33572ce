"""How well the trained judge of sentences tells supported from unsupported: by corruption, on wordings and names it never saw.

    python -m bench.faithfulness

Also counts, over the rows judged by hand in tests/gym/near_misses, what the reward and the judge get wrong. Writes
results/faithfulness.json and its table.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openk2.gym.faithfulness.env import UNSUPPORTED, verify
from openk2.gym.faithfulness.features import Evidence
from openk2.gym.faithfulness.judge import TrainedJudge
from openk2.gym.faithfulness.pairs import SUPPORTED, pairs
from openk2.gym.faithfulness.tokens import sentences
from openk2.jobs.atomic import write_json, write_text
from openk2.jobs.provenance import provenance
from openk2.stats import wilson

ROOT = Path(__file__).parents[1]
NEAR_MISSES = ROOT / "tests" / "gym" / "near_misses" / "faithfulness.jsonl"
NUM_PAIRS = 3000
SEED = 1


def measure_pairs(num_pairs: int = NUM_PAIRS) -> dict[str, Any]:
    """Precision and recall of "unsupported", and the share judged rightly by kind, on held-out pairs."""
    judge = TrainedJudge()
    right: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for pair in pairs(SEED, num_pairs, heldout=True):
        read = Evidence(pair.context)
        doubt = judge.weigh(read.features(read.reader().clauses(pair.sentence)))
        count[pair.kind] += 1
        right[pair.kind] += (doubt > UNSUPPORTED) == pair.unsupported
    caught = sum(right[kind] for kind in count if kind != SUPPORTED)
    unsupported = num_pairs - count[SUPPORTED]
    wronged = count[SUPPORTED] - right[SUPPORTED]
    return {
        "precision": asdict(wilson(caught, caught + wronged)),
        "recall": asdict(wilson(caught, unsupported)),
        "rightly_judged": {kind: asdict(wilson(right[kind], count[kind])) for kind in sorted(count)},
    }


def measure_near_misses() -> dict[str, Any]:
    """What is accepted that must not be, and refused that is right: whole replies by the reward, sentences by the judge."""
    judge, payloads = TrainedJudge(), {}
    count: Counter[tuple[str, str, bool]] = Counter()
    wrong: Counter[tuple[str, str, bool]] = Counter()
    for row in map(json.loads, NEAR_MISSES.read_text(encoding="utf-8").splitlines()):
        if "payload" in row:
            payloads[row["context"]] = row["payload"]
            continue
        payload = payloads[row["context"]]
        if "reply" in row:
            accepted = asyncio.run(verify(row["reply"], payload, judge)).total == 1
        else:
            doubts = asyncio.run(judge.unsupported(payload["context"], sentences(row["sentence"])))
            accepted = max(doubts) <= UNSUPPORTED
        key = (row.get("batch", "development"), "replies" if "reply" in row else "sentences", row["right"])
        count[key] += 1
        wrong[key] += accepted != row["right"]
    return {
        f"{batch}, {kind}, {'right: rejected' if right else 'wrong: accepted'}": asdict(wilson(wrong[key], count[key]))
        for key in sorted(count)
        for batch, kind, right in (key,)
    }


def table(record: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lines = [f"`{record['command']}`, commit {record['commit']}, {record['machine']}, {record['date']}.", ""]
    lines += ["| held-out pairs | n | value | 95 % interval |", "|---|---|---|---|"]
    lines += [_row(name, record["pairs"][name]) for name in ("precision", "recall")]
    lines += [_row(f"rightly judged: {kind}", each) for kind, each in record["pairs"]["rightly_judged"].items()]
    lines += ["", "| judged by hand | n | share wrong | 95 % interval |", "|---|---|---|---|"]
    lines += [_row(name, each) for name, each in record["near_misses"].items()]
    return "\n".join(lines) + "\n"


def _row(name: str, each: dict[str, Any]) -> str:
    return f"| {name} | {each['n']} | {each['value']:.1%} | {each['low']:.1%} to {each['high']:.1%} |"


def main() -> int:
    """Measure and write."""
    measured = {"pairs": measure_pairs(), "near_misses": measure_near_misses()}
    record = {"command": "python -m bench.faithfulness", **provenance(), **measured}
    write_json(ROOT / "results" / "faithfulness.json", record)
    write_text(ROOT / "results" / "faithfulness.md", table(record))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
