"""From evaluation files to the numbers of ``summary.json``.

Pass@1 of stage S on set T lies in ``eval/S-T.jsonl``, its Avg@k in ``eval/S-T-avg.jsonl``.
"""

from __future__ import annotations

from pathlib import Path

from openk2.eval.results import Results, read_results
from openk2.schema import JSON
from openk2.stats import Estimate, paired_difference

STAGES = ("base", "sft", "sft_control", "rl")
SETS = ("demonstrated", "undemonstrated", "unseen_domain")
COMPARED = (("sft", "base"), ("rl", "sft"), ("rl", "sft_control"))
"""Which stages are compared: (after, before)."""


def eval_path(run_dir: Path, stage: str, task_set: str, *, avg: bool = False) -> Path:
    """Where the traces of a stage on a set lie: those of pass@1, or with ``avg`` those of Avg@k."""
    return run_dir / "eval" / f"{stage}-{task_set}{'-avg' if avg else ''}.jsonl"


def summarize(run_dir: Path, *, seed: int = 0) -> JSON:
    """The evaluation's sections of ``summary.json``; what was not evaluated does not appear.

    ``tasks``: {set: {stage: {pass_at_1, ci95, n}}}.
    ``comparisons``: {set: {"rl_vs_sft": {difference, ci95, p_value, gained, lost, n}}}, over the tasks both played.
    ``avg_at_k``: {set: {stage: {avg_at_k, k, ci95, n}}}.
    ``by_kind``, ``by_app``: {set: {stage: {name: {pass_at_1, ci95, n}}}}.
    ``env_errors``: {set: {stage: count}}, where any.
    """
    sections = ("tasks", "comparisons", "avg_at_k", "by_kind", "by_app", "env_errors")
    out: JSON = {section: {} for section in sections}
    for task_set in SETS:
        found = {s: read_results(p) for s in STAGES if (p := eval_path(run_dir, s, task_set)).exists()}
        sampled = {s: read_results(p) for s in STAGES if (p := eval_path(run_dir, s, task_set, avg=True)).exists()}
        parts: dict[str, JSON] = {
            "tasks": {stage: _rate(results.pass_at_1()) for stage, results in found.items()},
            "comparisons": {
                f"{after}_vs_{before}": compare(found[before], found[after], seed=seed)
                for after, before in COMPARED
                if after in found and before in found
            },
            "avg_at_k": {stage: _avg(results, seed) for stage, results in sampled.items()},
            "by_kind": {stage: _rates(results.by_kind()) for stage, results in found.items()},
            "by_app": {stage: _rates(results.by_app()) for stage, results in found.items()},
            "env_errors": {stage: r.num_env_errors for stage, r in found.items() if r.num_env_errors},
        }
        for section, part in parts.items():
            if part:
                out[section][task_set] = part
    return out


def compare(before: Results, after: Results, *, seed: int) -> JSON:
    """Two policies on the tasks both played. Raises ValueError when they share none."""
    first, second = before.passes(), after.passes()
    shared = sorted(first.keys() & second.keys())
    found = paired_difference([first[i] for i in shared], [second[i] for i in shared], seed=seed)
    return {
        "difference": found.value,
        "ci95": [found.low, found.high],
        "p_value": found.p_value,
        "gained": found.num_gained,
        "lost": found.num_lost,
        "n": found.n,
    }


def _rate(estimate: Estimate) -> JSON:
    return {"pass_at_1": estimate.value, "ci95": [estimate.low, estimate.high], "n": estimate.n}


def _rates(estimates: dict[str, Estimate]) -> JSON:
    return {name: _rate(estimate) for name, estimate in estimates.items()}


def _avg(results: Results, seed: int) -> JSON:
    estimate = results.avg_at_k(seed=seed)
    k = len(results.outcomes) // estimate.n
    return {"avg_at_k": estimate.value, "k": k, "ci95": [estimate.low, estimate.high], "n": estimate.n}
