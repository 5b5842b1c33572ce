"""Pairs with known verdicts: each flaw as often, no side favoured, the closed loop's labels from rewards."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from openk2.gym.critic.comparison import ask
from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.judge import JudgeFailedError
from openk2.gym.critic.measure import measure_critic, summary
from openk2.gym.critic.pairwise import Comparison, PairwiseCritic
from openk2.gym.critic.preferences import TIES, Pair, critique, labelled_pairs, preference_pairs
from openk2.gym.critic.rubrics import CORE, PRESCRIPTIVE
from openk2.gym.writing.family import letter_of, verify
from openk2.gym.writing.writer import FLAWS
from openk2.schema import Task
from tests.gym.critic.rule import RuleModel, by_flaws, letters

CONFIG = CriticConfig()
SUM = Task("math-1", "math", "sum", "train", {"question": "What is 7 + 5?", "answer": "12"})


def test_every_reason_comes_as_often_and_on_both_sides() -> None:
    pairs = preference_pairs("train", 320, 0)
    assert Counter(pair.why for pair in pairs) == dict.fromkeys((*FLAWS, *TIES), 40)
    for flaw in FLAWS:
        assert Counter(pair.better for pair in pairs if pair.why == flaw) == {"first": 20, "second": 20}
    assert {pair.better for pair in pairs if pair.why in TIES} == {"tie"}
    assert all(pair.first != pair.second for pair in pairs)
    assert pairs == preference_pairs("train", 320, 0) != preference_pairs("train", 320, 1)
    assert pairs[:100] == preference_pairs("train", 100, 0)


def test_the_hidden_checker_agrees_with_every_label() -> None:
    tasks = letters()
    for pair in [*preference_pairs("train", 400, 1), *preference_pairs("heldout", 400, 1)]:
        one, other = (verify(text, letter_of(tasks[pair.question])) for text in (pair.first, pair.second))
        if pair.why == "both_good":
            assert one.passed
            assert other.passed
        elif pair.why == "both_flawed":
            assert not one.passed
            assert not other.passed
        else:
            better, worse = (one, other) if pair.better == "first" else (other, one)
            assert better.passed
            assert worse.parts[pair.why]


def test_splits_share_no_question() -> None:
    train, heldout = ({pair.question for pair in preference_pairs(split, 600, 0)} for split in ("train", "heldout"))
    assert not train & heldout


@pytest.mark.parametrize("wording", ["short", "full"])
def test_what_is_learnt_is_what_is_asked(wording) -> None:
    pair = Pair("Q?", "one", "other", "first", "reward", (*CORE, *PRESCRIPTIVE))
    config = CriticConfig(wording=wording)
    *asked, said = critique(pair, config, swapped=False)
    assert asked == ask("Q?", "one", "other", pair.rubrics, wording)
    assert (said.role, said.content) == ("assistant", "A")
    *asked, said = critique(pair, config, swapped=True)
    assert asked == ask("Q?", "other", "one", pair.rubrics, wording)
    assert said.content == "B"
    assert critique(pair.swapped, config, swapped=True) == critique(pair, config, swapped=False)
    assert critique(Pair("Q?", "a", "b", "tie", "both_good", ()), config, swapped=True)[-1].content == "tie"


# ---------------------------------------------------------------------------------------------
# The closed loop
# ---------------------------------------------------------------------------------------------


def test_rollouts_of_different_reward_make_pairs() -> None:
    pairs = labelled_pairs(SUM, ["12", "13", "12.", "11"], [1.0, 0.0, 1.0, 0.0], 10)
    assert len(pairs) == 4
    assert abs(Counter(pair.better for pair in pairs)["first"] - 2) == 0
    for pair in pairs:
        best = pair.first if pair.better == "first" else pair.second
        assert best in ("12", "12.")
        assert (pair.question, pair.why) == ("What is 7 + 5?", "reward")
    assert labelled_pairs(SUM, ["12", "13", "12.", "11"], [1.0, 0.0, 1.0, 0.0], 2) == pairs[:2]


def test_what_labels_nothing_makes_no_pair() -> None:
    assert labelled_pairs(SUM, ["12", "13"], [0.5, 0.5], 10) == []
    assert labelled_pairs(SUM, ["12", "12"], [1.0, 0.0], 10) == []
    assert labelled_pairs(SUM, ["12", "13", "12", "13"], [1.0, 0.0, 0.0, 1.0], 10) == []  # rewarded both ways
    assert labelled_pairs(SUM, [], [], 10) == []
    assert labelled_pairs(SUM, ["12", "13"], [1.0, 0.0], 0) == []
    assert labelled_pairs(Task("t", "tools", "k", "train", {"goal": 1}), ["a", "b"], [1.0, 0.0], 10) == []
    assert labelled_pairs(SUM, ["12", "13", "12", "13"], [1.0, 0.0, 1.0, 0.0], 10)[1:] == []  # once, not four times
    with pytest.raises(ValueError, match="task math-1: 2 replies but 1 rewards"):
        labelled_pairs(SUM, ["12", "13"], [1.0], 10)


def test_sides_even_out_over_many_tasks() -> None:
    sides: Counter[str] = Counter()
    for number in range(400):
        task = Task(f"math-{number}", "math", "sum", "train", {"question": "?"})
        sides.update(pair.better for pair in labelled_pairs(task, ["x", "y"], [1.0, 0.0], 1))
    assert 160 < sides["first"] < 240


# ---------------------------------------------------------------------------------------------
# The measure
# ---------------------------------------------------------------------------------------------


def pair(better, why: str = "praise") -> Pair:
    return Pair("Q?", "one", "other", better, why, ())


def test_a_critic_that_sees_all_flaws_measures_perfect() -> None:
    critic = PairwiseCritic(by_flaws(), None, CONFIG)
    pairs = [each for each in preference_pairs("heldout", 160, 0) if each.why != "both_flawed"]
    found = asyncio.run(measure_critic(critic, pairs, 60))
    assert (found.accuracy, found.confidence, found.overconfidence, found.calibration_error) == (1, 1, 0, 0)
    assert (found.tie_distance, found.contradictions, found.unreadable) == (0, 0, 0)
    assert found.by_reason == {**dict.fromkeys(FLAWS, 1.0), "both_good": 1.0}
    assert (found.num_pairs, found.num_decided) == (140, 120)


def test_a_critic_that_goes_by_length_measures_so() -> None:
    model = RuleModel(lambda _, a, b: "A" if len(a) < len(b) else "B")
    found = asyncio.run(measure_critic(PairwiseCritic(model, None, CONFIG), preference_pairs("heldout", 160, 0), 60))
    assert found.by_reason["justification"] > 0.8  # what is longer is worse
    assert found.by_reason["missing"] < 0.5  # but not here
    assert found.confidence == 1
    right = (found.accuracy - found.undecided / 2) / (1 - found.undecided)
    assert found.overconfidence == pytest.approx(1 - right)
    assert found.tie_distance > 0.3


def test_one_that_says_a_contradicts_itself_everywhere() -> None:
    found = asyncio.run(
        measure_critic(PairwiseCritic(RuleModel(lambda *_: "A"), None, CONFIG), preference_pairs("heldout", 80, 0), 60)
    )
    assert (found.accuracy, found.contradictions, found.undecided) == (0.5, 1, 1)
    assert found.by_reason["both_good"] == 0, "a tie is what it did not say"


def test_figures_are_those_reckoned_by_hand() -> None:
    pairs = [pair("first"), pair("first"), pair("second"), pair("second", "wrong"), pair("tie", "both_good")]
    said = [Comparison(value, False, 0) for value in (0.91, 0.62, 0.63, 0.1, 0.8)]
    found = summary(pairs, said)
    assert found.undecided == 0
    assert found.accuracy == pytest.approx(3 / 4)
    assert found.confidence == pytest.approx((0.91 + 0.62 + 0.63 + 0.9) / 4)
    assert found.overconfidence == pytest.approx(0.765 - 0.75)
    # Bins of 0.05: {0.62 right, 0.63 wrong} and {0.91, 0.9 both right}.
    assert found.calibration_error == pytest.approx((abs(1.25 - 1) + abs(1.81 - 2)) / 4)
    assert found.tie_distance == pytest.approx(0.3)
    assert found.by_reason == {"praise": pytest.approx(2 / 3), "wrong": 1, "both_good": 0}


def test_what_it_has_no_opinion_of_says_nothing_about_its_confidence() -> None:
    pairs = [pair("first"), pair("first"), pair("first"), pair("tie", "both_good")]
    said = [Comparison(0.9, False, 0), Comparison(0.5, True, 0), Comparison(0.5, False, 0), Comparison(0.5, False, 0)]
    found = summary(pairs, said)
    assert (found.accuracy, found.undecided) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (found.confidence, found.overconfidence) == (0.9, pytest.approx(-0.1))
    assert found.calibration_error == pytest.approx(0.1)
    assert found.by_reason["both_good"] == 1


def test_a_model_that_is_gone_is_told() -> None:
    def gone(*_: str) -> str:
        raise ConnectionError("nobody there")

    with pytest.raises(JudgeFailedError, match="unavailable: ConnectionError: nobody there"):
        asyncio.run(measure_critic(PairwiseCritic(RuleModel(gone), None, CONFIG), [pair("first")], 60))
    with pytest.raises(ValueError, match="there are none"):
        asyncio.run(measure_critic(PairwiseCritic(RuleModel(gone), None, CONFIG), [], 60))
