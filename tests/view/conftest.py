"""A plausible run folder, made of seeded noise: only to look at pages with."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from openk2.jobs.funnel import Funnel
from openk2.schema import CallError, Message, Score, Segment, ToolCall, ToolSpec, Trace
from openk2.stats import paired_difference, wilson

SCRIPT = "<script>alert('owned')</script>"
KINDS = {
    "demonstrated": ["transfer_money", "book_table", "move_meeting", "return_order", "find_contact"],
    "undemonstrated": ["split_bill", "merge_notes", "swap_shifts"],
    "unseen_domain": ["renew_loan", "reserve_book"],
}
RATES = {
    "demonstrated": {"base": 0.01, "sft": 0.64, "sft_control": 0.66, "rl": 0.68},
    "undemonstrated": {"base": 0.0, "sft": 0.21, "sft_control": 0.24, "rl": 0.52},
    "unseen_domain": {"base": 0.0, "sft": 0.11, "sft_control": 0.10, "rl": 0.16},
}
RECIPE = """\
name = "nano"
seed = 7

[model]
num_layers = 6
d_model = 256
num_experts = 32
experts_per_token = 4

[optim]
qk_clip_threshold = 100.0
"""


def make_run(folder: Path, *, num_tasks: int = 200, stages: tuple[str, ...] = ("pretrain", "sft", "sft_control", "rl")):
    """Write a run folder that has got as far as ``stages``."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE)
    rng = random.Random(0)
    for stage in stages:
        write_metrics(folder / stage / "metrics.jsonl", stage, rng)
    if "sft" not in stages:
        return folder
    (folder / "worlds").mkdir()
    funnel = Funnel(
        Counter(task=31_204, gates=26_110, episode=26_107, judge=24_000),
        {
            "gates": Counter(oracle_fails=1334, null_agent_passes=3757),
            "episode": Counter(turn_budget=3),
            "judge": Counter({"missed told": 2107}),
        },
    ).to_json()
    (folder / "worlds" / "funnel.json").write_text(json.dumps(funnel))
    evaluated = ["base", *(stage for stage in stages if stage != "pretrain")]
    write_summary(folder, evaluated, write_episodes(folder, evaluated, num_tasks, rng))
    return folder


def write_metrics(path: Path, stage: str, rng: random.Random) -> None:
    steps = {"pretrain": 900, "sft": 600, "sft_control": 400, "rl": 45}[stage]
    path.parent.mkdir()
    with path.open("w") as file:
        for step in range(1, steps + 1):
            done = step / steps
            loss = {"pretrain": 2.2, "sft": 0.25, "sft_control": 0.2, "rl": 0.02}[stage]
            loss += {"pretrain": 5.5, "sft": 0.9, "sft_control": 0.06, "rl": 0.03}[stage] * math.exp(-6 * done)
            peak = {"pretrain": 2e-2, "sft": 8e-3, "sft_control": 4e-3, "rl": 1e-3}[stage]
            record = {
                "step": step,
                "tokens": 4096 * step,
                "seconds": 0.12 * step,
                "loss": loss * (1 + 0.07 * rng.gauss(0, 1)),
                "lr": peak * min(1.0, step / (0.05 * steps)) * (1.0 if done < 0.7 else 1 - (done - 0.7) / 0.3 * 0.95),
                "tokens_per_second": rng.gauss(9_000, 300),
                "grad_norm": rng.gauss(1, 0.1),
                "max_logit": min(100.0, 12 + 130 * done + rng.gauss(0, 3))
                if stage == "pretrain"
                else 96 + rng.random(),
                "clipped_heads": max(0, round(9 * math.sin(3 * (done - 0.5)))) if stage == "pretrain" else 0,
                "num_heads": 24,
                "min_gamma": 1 - 0.3 * done,
                **{f"max_logit/layer {layer}": 10 + layer + 50 * done for layer in range(3)},
                "expert_load": 1.25 + 2.4 * math.exp(-9 * done) + 0.1 * rng.random(),
            }
            if stage == "rl":
                record |= {
                    "reward": 0.3 + 0.32 * (1 - math.exp(-3 * done)) + 0.03 * rng.gauss(0, 1),
                    "pass_rate": 0.26 + 0.3 * (1 - math.exp(-3 * done)) + 0.03 * rng.gauss(0, 1),
                    "mixed_groups": 0.55 - 0.15 * done + 0.04 * rng.gauss(0, 1),
                    "response_tokens": 84 + 14 * done + 4 * rng.gauss(0, 1),
                    "kl": 0.04 * done + 0.002 * rng.random(),
                    "ptx_loss": 0.22 + 0.01 * rng.gauss(0, 1),
                }
            file.write(json.dumps(record) + "\n")


def write_episodes(folder: Path, stages: list[str], num_tasks: int, rng: random.Random) -> dict:
    passes: dict = {}
    (folder / "eval").mkdir()
    for task_set, kinds in KINDS.items():
        luck = [rng.random() for _ in range(num_tasks)]
        for stage in stages:
            results = passes.setdefault(task_set, {}).setdefault(stage, [])
            with (folder / "eval" / f"{stage}-{task_set}.jsonl").open("w") as file:
                for i in range(num_tasks):
                    kind = kinds[i % len(kinds)]
                    passed = luck[i] * 0.85 + rng.random() * 0.15 < RATES[task_set][stage]
                    results.append((kind, passed))
                    file.write(json.dumps(make_trace(f"{task_set}-{i}", kind, stage, passed).to_json()) + "\n")
    return passes


def make_trace(task_id: str, kind: str, stage: str, passed: bool) -> Trace:
    rng = random.Random(task_id)
    amount, account = rng.randint(20, 900), f"AC-{rng.randint(1000, 9999)}"
    tools = [
        ToolSpec("list_accounts", "All accounts of the customer who is logged in.", {"type": "object"}),
        ToolSpec("transfer", "Move money between two accounts of the same bank.", {"type": "object"}),
    ]
    find = ToolCall("functions.list_accounts:0", "list_accounts", '{"owner": "Mira Solberg"}')
    accounts = json.dumps({"accounts": [{"id": account, "owner": "Mira Solberg", "balance": 1204.5, "open": True}]})
    move = ToolCall("functions.transfer:1", "transfer", json.dumps({"to": account, "amount": amount, "memo": "rent"}))
    question = f"Please send {amount} to Mira Solberg for the rent ({kind.replace('_', ' ')}) and tell me her account."
    messages = [
        Message("system", "You work at the counter of a small bank. Never move more than 1000."),
        Message("user", question),
    ]
    if stage == "base":
        messages.append(Message("assistant", "the the of import os def return <b>self</b> " + SCRIPT))
    else:
        messages.append(Message("assistant", "Let me look up her account.", [find]))
        messages.append(Message("tool", accounts, tool_call_id=find.id))
        if passed:
            messages.append(Message("assistant", "", [move]))
            messages.append(Message("tool", '{"ok": true, "balance": 310.0}', tool_call_id=move.id))
            messages.append(Message("assistant", f"Done: {amount} went to account {account}, with the memo “rent”."))
        else:
            bad = ToolCall("functions.transfer:1", "transfer", '{"to": "AC-', CallError.TRUNCATED)
            messages.append(Message("assistant", "", [bad]))
    score = Score(
        1.0 if passed else 0.0, {"money_moved": float(passed), "account_named": float(passed), "limit_kept": 1.0}
    )
    segment = Segment("sampled", list(range(80)), [True] * 80, [-0.1] * 80)
    trace = Trace(
        f"{task_id}-{stage}", task_id, 1, "abc", [segment], messages, tools, "done" if passed else "malformed", score
    )
    trace.info["eval"] = {"sample": 0, "kind": kind, "app": "bank"}
    return trace


def write_summary(folder: Path, stages: list[str], passes: dict) -> None:
    def rate(passed: list[bool]) -> dict:
        found = wilson(sum(passed), len(passed))
        return {"pass_at_1": found.value, "ci95": [found.low, found.high], "n": found.n}

    tasks: dict = {}
    by_kind: dict = {}
    comparisons: dict = {}
    for task_set, by_stage in passes.items():
        tasks[task_set] = {stage: rate([ok for _, ok in found]) for stage, found in by_stage.items()}
        by_kind[task_set] = {
            stage: {kind: rate([ok for k, ok in found if k == kind]) for kind in KINDS[task_set]}
            for stage, found in by_stage.items()
        }
        for after, before in (("sft", "base"), ("rl", "sft"), ("rl", "sft_control")):
            if after in by_stage and before in by_stage:
                pair = [[ok for _, ok in by_stage[stage]] for stage in (before, after)]
                found = paired_difference(pair[0], pair[1], seed=0)
                comparisons.setdefault(task_set, {})[f"{after}_vs_{before}"] = {
                    "difference": found.value,
                    "ci95": [found.low, found.high],
                    "p_value": found.p_value,
                    "gained": found.num_gained,
                    "lost": found.num_lost,
                    "n": found.n,
                }
    summary = {
        "recipe": "nano",
        "commit": "3f9c2ab",
        "machine": "2 cores, AMD EPYC 7B13, torch 2.13.0",
        "seconds": {
            "corpus": 21.4,
            "pretrain": 104.0,
            "worlds": 12.0,
            "sft": 231.0,
            "rl": 178.2,
            "sft_control": 176.0,
            "eval": 51.3,
        },
        "budget_seconds": {
            "corpus": 30,
            "pretrain": 110,
            "worlds": 20,
            "sft": 240,
            "rl": 180,
            "sft_control": 180,
            "eval": 45,
        },
        "peak_rss_bytes": 3_422_552_064,
        "tokens_per_second": 8923.4,
        "heldout_bits_per_byte": 1.824,
        "training": {
            "pretrain": {"tokens_per_second": 8923.4, "heldout_bits_per_byte": 1.824},
            "sft": {"tokens_per_second": 9321.0, "heldout_bits_per_byte": 1.931},
        },
        "tasks": tasks,
        "comparisons": comparisons,
        "by_kind": by_kind,
        "avg_at_k": {"undemonstrated": {"rl": {"avg_at_k": 0.487, "k": 4, "ci95": [0.41, 0.56], "n": 64}}},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "nano")


@pytest.fixture(scope="session")
def new_run() -> Callable[..., Path]:
    return make_run
