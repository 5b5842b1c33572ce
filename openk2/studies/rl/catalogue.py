"""The studies: which arms, what is compared, and what K2 says would come out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openk2.studies.rl.latency import Latency
from openk2.studies.rl.measure import DEMONSTRATED, GREEDY, SAMPLED, UNDEMONSTRATED
from openk2.studies.rl.run import Arm, Plan

Entry = Mapping[str, Any]
"""A trained model with what belongs to it: ``arm`` (its name), ``seed``, ``model``, ``course`` and ``judged``."""
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number to compare arms by, by difference or by ratio; None where a run has none. Shares are written in percent."""

    words: str
    of: Callable[[Entry], float | None]
    share: bool = True
    digits: int = 1
    ratio: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """Something over the steps, to be drawn."""

    words: str
    of: Callable[[Entry], Points]


@dataclass(frozen=True, slots=True)
class Study:
    """Arms are compared with the first one."""

    claim: str
    plan: Plan
    arms: tuple[Arm, ...]
    measures: tuple[Measure, ...]
    courses: tuple[Course, ...]


# ---------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------


def mean_score(model: Mapping[str, Any], kinds: str, temperature: float, families: Sequence[str] = ()) -> float | None:
    """The mean over families of the score on their held-out tasks of those kinds; all families where none is named."""
    found = [
        statistics.mean(at[str(temperature)]["scores"])
        for name, at in model["scores"].items()
        if name.endswith(f"/{kinds}") and (not families or name.partition("/")[0] in families)
    ]
    return statistics.mean(found) if found else None


def mean_tokens(model: Mapping[str, Any], kinds: str, temperature: float) -> float | None:
    """The mean over families of the tokens sampled for a held-out task of those kinds."""
    found = [at[str(temperature)]["tokens"] for name, at in model["scores"].items() if name.endswith(f"/{kinds}")]
    return statistics.mean(found) if found else None


def _score(words: str, kinds: str, temperature: float, *families: str) -> Measure:
    return Measure(words, lambda entry: mean_score(entry["model"], kinds, temperature, families))


def _mean_of(words: str, metric: str, *, share: bool = True, digits: int = 1) -> Measure:
    """The mean of a metric over the steps that have it."""

    def mean(entry: Entry) -> float | None:
        found = [row[metric] for row in entry["course"] if metric in row]
        return statistics.mean(found) if found else None

    return Measure(words, mean, share, digits)


def _critic(words: str, *path: str, share: bool = True, digits: int = 1) -> Measure:
    """Of the critic at the end."""
    return Measure(words, lambda entry: _within(entry["judged"][-1], path) if entry["judged"] else None, share, digits)


def _within(told: Any, path: Sequence[str]) -> float | None:
    """What lies at the end of the path; None where it breaks off."""
    for key in path:
        if key not in told:
            return None
        told = told[key]
    return float(told)


def _metric(words: str, metric: str) -> Course:
    return Course(words, lambda entry: [(row["step"], row[metric]) for row in entry["course"] if metric in row])


def _looks(words: str, *path: str) -> Course:
    """Of the critic over the steps."""

    def points(entry: Entry) -> Points:
        found = [(look["step"], _within(look, path)) for look in entry["judged"]]
        return [(step, value) for step, value in found if value is not None]

    return Course(words, points)


def finished_per_hour(entry: Entry) -> float | None:
    """Rollouts that could be learnt from, per hour of the stage's time."""
    if not entry["course"]:
        return None
    kept = sum(value for row in entry["course"] for name, value in row.items() if name.startswith("rollouts/"))
    return kept / entry["course"][-1]["seconds"] * 3600


NEW = _score("new kinds, T = 1", UNDEMONSTRATED, SAMPLED)
NEW_GREEDY = _score("new kinds, greedy", UNDEMONSTRATED, GREEDY)
OLD = _score("shown kinds, T = 1", DEMONSTRATED, SAMPLED)
OLD_GREEDY = _score("shown kinds, greedy", DEMONSTRATED, GREEDY)
SCORES = (NEW, NEW_GREEDY, OLD, OLD_GREEDY)
LOSS = Measure(
    "loss on demonstrations, nats", lambda entry: entry["model"].get("demonstration_loss"), share=False, digits=3
)
BITS = Measure("bits per byte", lambda entry: entry["model"]["bits_per_byte"], share=False, digits=3)
TOKENS = Measure(
    "tokens an answer, T = 1", lambda entry: mean_tokens(entry["model"], UNDEMONSTRATED, SAMPLED), share=False
)
REWARD = _metric("Reward in training", "reward")

# ---------------------------------------------------------------------------------------------
# The studies
# ---------------------------------------------------------------------------------------------

STEPS = 40
ALONE_STEPS = 25
TIGHT = {"max_tokens": 12, "budgets": {"tools": 64, "writing": 44}}  # nine in ten right answers fit
VERIFIED = {"tools": 0.34, "math": 0.22, "logic": 0.22}  # as the recipe shares them out, and as many of each
CRITIC_ALONE = {"verified_share": 0.0}  # so that a letter's score stays hidden from what is learnt
# A known pair is rehearsed as much as beside as many fresh ones, with half the weight for half the pairs.
KNOWN_ALONE = {"pairs_per_step": 0, "known_per_step": 6, "weight": 0.05}
PTX_WEIGHT = 2.0
# Of the recipe's 24 prompts, those of such families. A sample of fewer weighs more: so does PTX then.
VERIFIED_ALONE = {"prompts_per_step": 19, "prompts_in_flight": 25, "ptx_weight": PTX_WEIGHT * 24 / 19}
JUDGED_ALONE = {"prompts_per_step": 5, "prompts_in_flight": 7, "ptx_weight": PTX_WEIGHT * 24 / 5}

STUDIES: Mapping[str, Study] = {
    "partial": Study(
        "Partial rollout: the long tail of unfinished tasks is paused and resumed in the next iteration, so that one slow "
        "rollout does not hold up the rest (K2 §3.3).",
        Plan("partial", ALONE_STEPS, alone=True, slow_tools=Latency()),
        tuple(
            Arm(name, rl={"families": {"tools": 0.7, "logic": 0.3}, "critic": None, "prompts_per_step": 8, "prompts_in_flight": prompts})
            for name, prompts in (("waits for all", 8), ("2x in flight", 16), ("3x in flight", 24))
        ),
        (
            Measure("finished rollouts an hour", finished_per_hour, share=False, digits=0, ratio=True),
            _mean_of("reward a sample", "reward"),
            _mean_of("idle", "idle_share"),
            _mean_of("staleness", "staleness", share=False, digits=2),
            _score("tools, new kinds, T = 1", UNDEMONSTRATED, SAMPLED, "tools"),
            _score("logic, new kinds, T = 1", UNDEMONSTRATED, SAMPLED, "logic"),
        ),
        (REWARD, _metric("Idle share", "idle_share")),
    ),
    "budget": Study(
        "Budget control: a cap on tokens by type of task, past which a response is cut and penalised, makes answers shorter "
        "without loss (K2 §3.2).",
        Plan("budget", STEPS, answer_tokens=192),
        (
            Arm("loose", rl={"max_tokens": 192, "budgets": {}, "truncation_penalty": 0.0}),
            Arm("tight", rl={**TIGHT, "truncation_penalty": 0.0}),
            Arm("tight, penalised", rl={**TIGHT, "truncation_penalty": 0.5}),
        ),
        (TOKENS, *SCORES),
        (REWARD, _metric("Tokens an answer, in training", "response_tokens")),
    ),
    "ptx": Study(
        "PTX: a loss on hand-picked dialogues beside that of RL keeps what was learnt before, and does not hinder what is new "
        "(K2 §3.2).",
        Plan("ptx", STEPS),
        tuple(Arm(name, rl={"ptx_weight": weight}) for name, weight in (("0", 0.0), ("0.5", 0.5), ("2", PTX_WEIGHT))),
        (LOSS, BITS, *SCORES),
        (REWARD, _metric("Loss of the objective", "loss")),
    ),
    "temperature": Study(
        "Temperature decay: high first for exploration, lower later for consistency (K2 §3.2).",
        Plan("temperature", STEPS),
        tuple(
            Arm(name, rl={"temperature": [first, last]})
            for name, first, last in (("1 to 0.8", 1.0, 0.8), ("1 to 0.6", 1.0, 0.6), ("1", 1.0, 1.0), ("0.6", 0.6, 0.6))
        ),
        (*SCORES, _mean_of("groups that teach", "mixed_groups")),
        (REWARD, _metric("Groups that teach", "mixed_groups")),
    ),
    "critic": Study(
        "Closed loop: verifiable rollouts keep the critic up to date with the policy it judges (K2 §3.2).",
        Plan("critic", STEPS, looks=4, wants_critic=True),
        (
            Arm("closed loop", critic={**CRITIC_ALONE, "known_per_step": 6}),
            Arm("known flaws alone", critic={**CRITIC_ALONE, **KNOWN_ALONE}),
            Arm(
                "neither, no PTX",
                rl={"ptx_weight": 0.0},
                critic={**CRITIC_ALONE, "pairs_per_step": 0, "known_per_step": 0},
            ),
        ),
        (
            _critic("accuracy, known flaws", "known", "accuracy"),
            _critic("ECE", "known", "calibration_error"),
            _critic("overconfidence", "known", "overconfidence"),
            _critic("contradictions", "known", "contradictions"),
            _critic("fresh pairs", "fresh", "num_pairs", share=False, digits=0),
            _critic("accuracy, fresh pairs", "fresh", "accuracy"),
            _critic("ECE, fresh pairs", "fresh", "calibration_error"),
            _critic("overconfidence, fresh pairs", "fresh", "overconfidence"),
            _critic("letters beat SFT's, says itself", "reward"),
            _critic("letters beat SFT's, says SFT", "reward_by_sft"),
            _critic("letters' hidden score", "score"),
        ),
        (
            _looks("Accuracy, known flaws", "known", "accuracy"),
            _looks("Letters beat SFT's, says itself", "reward"),
            _looks("Letters' hidden score", "score"),
        ),
    ),
    "mix": Study(
        "One framework takes rewards that are verified and rewards that are judged, and each carries over to the other "
        "(K2 §3.2).",
        Plan("mix", STEPS, wants_critic=True),
        (
            Arm("both"),
            Arm("letters by the critic alone", critic=CRITIC_ALONE),
            Arm("verified alone", rl={"families": VERIFIED, "critic": None, **VERIFIED_ALONE}),
            Arm("judged alone", rl={"families": {"writing": 0.22}, **JUDGED_ALONE}, critic={**CRITIC_ALONE, **KNOWN_ALONE}),
        ),
        (
            *(_score(f"{family}, new kinds, T = 1", UNDEMONSTRATED, SAMPLED, family) for family in (*VERIFIED, "writing")),
            _critic("letters beat SFT's, says SFT", "reward_by_sft"),
            _critic("critic's accuracy, known flaws", "known", "accuracy"),
        ),
        (REWARD, _metric("Letters, hidden pass rate in training", "pass_rate/writing")),
    ),
    "objective": Study(
        "The squared objective of K1.5 in its printed form, over whole answers, against the same taken token by token (K2 §3.2).",
        Plan("objective", STEPS),
        (
            Arm("sequence", rl={"objective": "sequence"}),
            Arm("token", rl={"objective": "token"}),
            # Gradients of a mean over tokens are smaller, so that PTX weighs more beside them.
            Arm("token, less PTX", rl={"objective": "token", "ptx_weight": 0.5}),
        ),
        (
            *SCORES,
            _mean_of("gradient norm", "grad_norm", share=False, digits=3),
            _mean_of("log-ratio", "log_ratio", share=False, digits=4),
            _mean_of("importance weights capped", "capped"),
        ),
        (REWARD, _metric("Gradient norm", "grad_norm"), _metric("Log-ratio", "log_ratio")),
    ),
    "lift": Study(
        "RL lifts held-out tasks of kinds that no demonstration shows, beyond SFT continued for the same time, and is no mere "
        "sharpening (K2 §3.2).",
        Plan("lift", None, num_tasks=256, control=True, all_cores=True, alone=True, sft_temperatures=(0.3, 0.5, 0.7)),
        (Arm("as in the recipe"),),
        (*SCORES, Measure("seconds", lambda entry: entry["model"]["seconds"], share=False, digits=0)),
        (REWARD,),
    ),
}  # fmt: skip


def study_of(name: str, num_steps: int | None = None) -> Study:
    """A study by name, at another length where one is given."""
    found = STUDIES[name]
    return found if num_steps is None else replace(found, plan=replace(found.plan, num_steps=num_steps))
