"""Synthetic reinforcement learning: the files a run writes, made of seeded noise. Only to look at pages with.

``python -m tests.view.rl.learning runs/made 60`` makes a run of 60 steps.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

FAMILIES = {"code": 0.35, "counting": 0.9, "instructions": 0.7, "logic": 0.55, "math": 0.6, "tools": 0.8}
"""Family and the reward it reaches."""


class Maker:
    """Writes a run step by step, as a run does."""

    def __init__(self, run_dir: Path, *, num_traces: int = 24, num_workers: int = 2, seed: int = 0) -> None:
        self.folder = run_dir / "rl"
        (self.folder / "rollouts").mkdir(parents=True, exist_ok=True)
        self._rng = random.Random(seed)
        self._num_traces, self._num_workers = num_traces, num_workers
        self.clock, self.run = 0.4, 0

    def step(self, step: int) -> None:
        """Traces first, then the time line, then the metrics."""
        idle = self.append("timeline", self._spans(step))
        traces = [self._trace(step, place) for place in range(self._num_traces)]
        with (self.folder / "rollouts" / f"step-{step:06d}.jsonl").open("w") as file:
            file.writelines(json.dumps(trace) + "\n" for trace in traces)
        self.append("metrics", self._metrics(step, traces, idle))

    def restart(self) -> None:
        """The process began anew."""
        self.clock, self.run = 2.5, self.run + 1

    def append(self, name: str, row: dict[str, Any]) -> float:
        """A line of ``metrics.jsonl`` or ``timeline.jsonl``; gives the idle share of a row of spans."""
        with (self.folder / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        spans = row.get("spans", ())
        busy = sum(s["end"] - s["start"] for s in spans if s["what"] in ("rollout", "train", "judge"))
        whole = sum(s["end"] - s["start"] for s in spans)
        return 1 - busy / whole if whole else 0.0

    def _spans(self, step: int) -> dict[str, Any]:
        spans, start = [], self.clock
        decoding = [self._rng.uniform(3.0, 5.5) for _ in range(self._num_workers)]
        for worker, seconds in enumerate(decoding):
            now = start
            doings = [
                ("rollout", seconds / 2),
                ("environments", self._rng.uniform(0.05, 0.4)),
                ("rollout", seconds / 2),
            ]
            doings += [("judge", 0.5), ("switch", max(decoding) - seconds + 0.1), ("train", 2.6), ("update", 0.22)]
            for what, lasts in [*doings, *([("save", 0.5)] if step % 5 == 0 else [])]:
                spans.append({"worker": worker, "what": what, "start": round(now, 3), "end": round(now + lasts, 3)})
                now += lasts
            self.clock = max(self.clock, now)
        self.clock += 0.1
        return {"step": step, **({"run": self.run} if self.run else {}), "spans": spans}

    def _trace(self, step: int, place: int) -> dict[str, Any]:
        rng = self._rng
        family = list(FAMILIES)[place // 4 % len(FAMILIES)]
        reached = FAMILIES[family] * (1 - 0.85 * math.exp(-step / 18))
        passed = rng.random() < reached
        reward = 1.0 if passed else round(rng.choice([0.0, 0.0, 0.0, 0.25, 0.5, -0.1]), 2)
        a, b = rng.randint(12, 97), rng.randint(12, 97)
        answer = a + b if passed else a + b + rng.randint(1, 9)
        call = {
            "id": "functions.add:0",
            "type": "function",
            "function": {"name": "add", "arguments": json.dumps({"a": a, "b": b})},
        }
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Answer with a number. Use the tools where they help."},
            {"role": "user", "content": f"A shelf holds {a} red and {b} blue books. How many is that in all?"},
        ]
        if family in ("tools", "code"):
            messages.append({"role": "assistant", "content": "Let me add them.", "tool_calls": [call]})
            messages.append({"role": "tool", "content": json.dumps({"sum": a + b}), "tool_call_id": call["id"]})
        messages.append({"role": "assistant", "content": f"That is {a} + {b}, so there are {answer} books in all."})
        return {
            "id": f"{family}-{step}-{place}", "task_id": f"{family}-{a}-{b}", "seed": step, "tokenizer_hash": "made",
            "segments": [{"source": "sampled", "token_ids": "AAECAwQ=", "loss_mask": "AQ==", "packed": "base64"}],
            "messages": messages,
            "tools": [{"type": "function", "function": {"name": "add", "description": "Add two numbers.", "parameters": {}}}],
            "stop_reason": "done" if rng.random() > 0.06 else "token_budget",
            "score": {"total": max(0.0, reward), "parts": {"right_number": float(passed), "one_sentence": 1.0}},
            "versions": {},
            "info": {"family": family, "kind": "sum_of_two", "reward": reward, "staleness": round(rng.random(), 2)},
        }  # fmt: skip

    def _metrics(self, step: int, traces: list[dict[str, Any]], idle: float) -> dict[str, float]:
        rng, done = self._rng, 1 - math.exp(-step / 18)
        row: dict[str, float] = {
            "step": step, "seconds": round(self.clock, 2), "mixed_groups": 0.35 + 0.3 * done + rng.gauss(0, 0.05),
            "temperature": 1.0 - 0.3 * done, "tokens_per_second": rng.gauss(5200, 180), "loss": 0.02 + 0.06 * (1 - done) + rng.gauss(0, 0.005),
            "kl": 0.002 + 0.01 * done + abs(rng.gauss(0, 0.002)), "log_ratio": rng.gauss(0, 0.01), "importance": 1 + rng.gauss(0, 0.01),
            "ptx_loss": 0.42 - 0.05 * done + rng.gauss(0, 0.01), "critic_loss": 0.7 - 0.3 * done + rng.gauss(0, 0.03),
            "staleness": abs(rng.gauss(0.4, 0.1)), "max_staleness": float(rng.randint(1, 3)), "idle_share": idle,
            "in_flight": float(rng.randint(40, 64)), "paused": float(rng.randint(2, 6)), "resumed": float(rng.randint(2, 6)),
            "dropped/uniform_group": float(rng.randint(1, 4)), "dropped/stale": float(rng.random() < 0.1),
        }  # fmt: skip
        if rng.random() < 0.1:
            row["broken/timeout"] = 1.0
        if step % 4 == 0:
            row |= {"critic_accuracy": 0.62 + 0.2 * done + rng.gauss(0, 0.01), "critic_ece": 0.14 - 0.08 * done}
        for family in (None, *FAMILIES):
            own = [trace for trace in traces if family in (None, trace["info"]["family"])]
            if not own:
                continue
            rewards = [trace["info"]["reward"] for trace in own]
            mean, end = sum(rewards) / len(own), "" if family is None else f"/{family}"
            row[f"reward{end}"] = mean
            row[f"pass_rate{end}"] = sum(reward >= 1 for reward in rewards) / len(own)
            row[f"response_tokens{end}"] = 60 + 50 * done + rng.gauss(0, 5)
            row[f"truncated{end}"] = sum(trace["stop_reason"] != "done" for trace in own) / len(own)
            if family is not None:
                row[f"rollouts{end}"] = float(len(own))
                row[f"reward_std{end}"] = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(own))
        return row


def make(run_dir: Path, num_steps: int, **how: int) -> Path:
    """A run of some steps, started anew after two thirds of them."""
    maker = Maker(run_dir, **how)
    (run_dir / "recipe.toml").write_text('name = "made"\n')
    for step in range(1, num_steps + 1):
        if step == num_steps * 2 // 3 + 1:
            maker.restart()
        maker.step(step)
    return run_dir


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
