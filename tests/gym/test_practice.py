"""A recipe may name any family: its tasks are played through the step's own environments."""

from __future__ import annotations

import pytest

from openk2.gym import catalogue
from openk2.gym.families import demonstrations, make_env, tasks
from openk2.worlds.config import WorldsConfig

WORLDS = WorldsConfig()


@pytest.mark.parametrize("family", catalogue.NAMES)
def test_every_family_can_be_practised(family: str) -> None:
    found = tasks(family, WORLDS, "rl")[:3]
    assert [task.family for task in found] == [family] * 3
    assert make_env(family, WORLDS).resumable in ("snapshot", "replay", "none")


def test_families_with_plain_answers_can_be_shown_and_others_say_so() -> None:
    question, answer = next(demonstrations("stem", tasks("stem", WORLDS, "train")))
    assert (question.role, answer.role) == ("user", "assistant")
    with pytest.raises(ValueError, match=r"sft\.questions: safety has no questions"):
        next(demonstrations("safety", tasks("safety", WORLDS, "train")))
