"""Tasks composed of facts to state and demands on the form that go together (K2 §3.2, instruction following).

Two demands go together when they claim no side of the reply in common, and when the right reply, which every demand writes its part of,
then passes every check. A combination that it does not pass is drawn again; one that the plain statements pass, too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from openk2.gym.instructions import tricks
from openk2.gym.instructions.bases import BASES, Base
from openk2.gym.instructions.claims import claims_compliance
from openk2.gym.instructions.content import states
from openk2.gym.instructions.demand import Demand, Maker
from openk2.gym.instructions.demands import edges, shape, wording
from openk2.gym.instructions.draft import Draft
from openk2.gym.instructions.registry import constraint
from openk2.gym.single_turn import Generator, Question
from openk2.schema import JSON

MAKERS: dict[str, Maker] = wording.MAKERS | shape.MAKERS | edges.MAKERS
_LAYOUTS = sorted(shape.MAKERS)
_NUM_FACTS = {1: (2, 2), 2: (3, 4), 3: (4, 6)}
_NUM_DEMANDS = {1: (1, 2), 2: (2, 3), 3: (4, 5)}
_MOST_DRAWS = 200
TONES = (
    "The reply is in a cheerful tone.",
    "The reply is in a formal tone.",
    "The reply speaks as an old sailor would.",
    "The reply speaks as if to a small child.",
    "The reply sounds like a sports reporter.",
    "The reply sounds sleepy.",
)
"""Demands that only a judge can decide."""


def generator(kind: str, num_soft: int) -> Generator:
    """Draws tasks about one kind of facts, with so many demands on tone."""

    def generate(rng: random.Random, level: int) -> Question:
        base = BASES[kind](rng, rng.randint(*_NUM_FACTS[level]))
        demands, gold = compose(rng, base, rng.randint(*_NUM_DEMANDS[level]))
        soft = rng.sample(TONES, num_soft)
        lines = [demand.say for demand in demands] + soft
        facts = {"content": demanded(base, demands), "constraints": [demand.spec for demand in demands], "soft": soft}
        return Question("\n".join((base.request, "", *(f"- {line}" for line in lines))), gold, base.key, (), facts)

    return generate


def compose(rng: random.Random, base: Base, count: int) -> tuple[Sequence[Demand], str]:
    """``count`` demands that go together and the right reply. Raises ValueError when none is found."""
    plain = _draft(base).text()
    for _ in range(_MOST_DRAWS):
        together = _together(rng, count)
        if len(together) < count:
            continue
        demands = [found.make(rng, base) for found in together]
        draft = _draft(base)
        for demand in demands:
            demand.write(draft)
        gold = draft.text()
        constraints = [constraint(demand.spec) for demand in demands]
        right = all(one.holds(gold) for one in constraints) and states(gold, demanded(base, demands))
        if right and is_honest(gold) and not all(one.holds(plain) for one in constraints):
            return demands, gold
    raise ValueError(f"no {count} demands found that go together on {base.key!r}")


def demanded(base: Base, demands: Sequence[Demand]) -> JSON:
    """What a reply to a base has to state under some demands."""
    return base.content | {key: value for demand in demands for key, value in demand.content.items()}


def is_honest(reply: str) -> bool:
    """Neither claims to comply, nor hides characters, nor repeats itself."""
    return not (claims_compliance(reply) or tricks.disguises(reply) or tricks.repeats(reply))


def _together(rng: random.Random, count: int) -> list[Maker]:
    """Makers of which any two go together; every other time the layout is chosen first, which leaves room for the others."""
    names = rng.sample(sorted(MAKERS), len(MAKERS))
    if rng.random() < 0.5:
        names.insert(0, rng.choice(_LAYOUTS))
    chosen: list[Maker] = []
    for found in map(MAKERS.__getitem__, names):
        if len(chosen) < count and all(found.goes_with(other) for other in chosen):
            chosen.append(found)
    return chosen


def _draft(base: Base) -> Draft:
    return Draft(list(base.statements), [list(row) for row in base.rows], list(base.columns), base.verbs[0])
