"""Pairs of a context and a sentence, with whether the context supports it: what the judge is trained and measured on.

Supported sentences say a fact in another wording, or two facts at once. The others are made from those by one corruption each.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from openk2.gym.faithfulness.disputes import DISPUTABLE, DISPUTES, SOURCES, Dispute, attributed
from openk2.gym.faithfulness.world import (
    KINDS,
    SEEN_ONSETS,
    SHARES,
    UNSEEN_ONSETS,
    Fact,
    Relation,
    World,
    draw_value,
    draw_world,
    name_of,
    seen,
    unseen,
)

SUPPORTED = "supported"


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence about a context; ``kind`` is "supported" or the corruption."""

    context: str
    sentence: str
    kind: str

    @property
    def unsupported(self) -> bool:
        """Whether the sentence says what the context does not."""
        return self.kind != SUPPORTED


class _Drawing:
    """Sentences of one split about one world."""

    def __init__(self, rng: random.Random, heldout: bool) -> None:
        self.rng = rng
        self._wordings: Callable[[Relation], Sequence[str]] = unseen if heldout else seen
        self._onsets = UNSEEN_ONSETS if heldout else SEEN_ONSETS
        self.world = draw_world(
            rng, rng.choice(KINDS), rng.randint(2, 4), num_alike=rng.randint(0, 2), onsets=self._onsets
        )
        told = [fact for fact in self.world.facts if rng.random() < 0.75]
        self.told = told if len(told) > 1 else list(self.world.facts)
        self.context = context_of(rng, [self.say(fact) for fact in self.told])
        self.disputed: tuple[Dispute, str] | None = None
        if rng.random() < 0.3 and (fact := self.fact(*DISPUTABLE)) is not None:
            kind = rng.choice(tuple(DISPUTES))
            self.told.remove(fact)
            dispute = Dispute(fact, self.other(fact), *(f"{name_of(rng, self._onsets)} {noun}" for noun in SOURCES))
            self.disputed = dispute, kind
            first, second = DISPUTES[kind](dispute, self.say)
            self.context = "\n\n".join((first, context_of(rng, [self.say(fact) for fact in self.told]), second))

    def disputes(self, fact: Fact) -> bool:
        """Whether the context tells a fact in two ways."""
        return self.disputed is not None and self.disputed[0].fact == fact

    def say(self, fact: Fact) -> str:
        return fact.said(self.rng.choice(self._wordings(fact.relation)))

    def fact(self, *values: str) -> Fact | None:
        """A told fact whose value is of one of these kinds; of any where none is named."""
        fits = [fact for fact in self.told if (not values or fact.relation.value in values) and not fact.denied]
        return self.rng.choice(fits) if fits else None

    def other(self, fact: Fact) -> str:
        """Another value that the fact's relation could have; often one that another thing has."""
        near = [each.value for each in self.told if each.relation == fact.relation and each.value != fact.value]
        if near and self.rng.random() < 0.6:
            return self.rng.choice(near)
        return next(
            value
            for value in iter(lambda: draw_value(self.rng, fact.relation, self._onsets), None)
            if value != fact.value
        )


def pairs(seed: int, count: int, *, heldout: bool) -> Iterator[Pair]:
    """``count`` pairs, half of them supported. ``heldout`` ones share no wording and no name with the others."""
    rng = random.Random(f"faithfulness pairs {'heldout' if heldout else 'train'} {seed}")
    made = 0
    while made < count:
        drawing = _Drawing(rng, heldout)
        kind = SUPPORTED if made % 2 == 0 else rng.choice(tuple(CORRUPTIONS))
        sentence = _supported(drawing) if kind == SUPPORTED else CORRUPTIONS[kind](drawing)
        if sentence is not None:
            yield Pair(drawing.context, sentence, kind)
            made += 1


def context_of(rng: random.Random, statements: Sequence[str]) -> str:
    """Paragraphs of three to five statements, in any order."""
    mixed = rng.sample(statements, len(statements))
    paragraphs = []
    while mixed:
        size = rng.randint(3, 5)
        paragraphs.append(" ".join(mixed[:size]))
        mixed = mixed[size:]
    return "\n\n".join(paragraphs)


# ---------------------------------------------------------------------------------------------
# What the context supports
# ---------------------------------------------------------------------------------------------


def _supported(drawing: _Drawing) -> str | None:
    rng = drawing.rng
    if drawing.disputed is not None and rng.random() < 0.6:
        dispute, kind = drawing.disputed
        if kind == "correction":
            return drawing.say(dispute.fact)
        return attributed(dispute.other_source, drawing.say(dispute.outdated))
    fact = rng.choice(drawing.told)
    said = drawing.say(fact)
    match rng.randrange(5):
        case 0:  # two facts of one thing, the second with a pronoun
            second = next((each for each in drawing.told if each.subject == fact.subject and each != fact), None)
            if second is None or not said.startswith(fact.subject):
                return said
            tail = drawing.say(second)
            return f"{said[:-1]}, and {'it' if drawing.world.kind != 'person' else 'this person'}{tail[len(fact.subject) :]}" if tail.startswith(fact.subject) and drawing.world.kind != "person" else said  # fmt: skip
        case 1:
            return f"According to the text, {said}"
        case 2:  # what no sentence tells
            untold = [
                each
                for each in drawing.world.facts
                if each not in drawing.told
                and each.relation.value not in ("pact", "same")
                and each.subject in drawing.context
                and not drawing.disputes(each)
            ]
            if untold:
                missing = rng.choice(untold)
                return f"{rng.choice(SILENCES)} {missing.relation.asks.format(s=missing.subject)}."
            return said
        case _:
            return said


SILENCES = ("The text does not say", "The context does not mention", "It is not stated")

# ---------------------------------------------------------------------------------------------
# What it does not
# ---------------------------------------------------------------------------------------------


def _with(drawing: _Drawing, fact: Fact | None, value: Callable[[Fact], str]) -> str | None:
    return None if fact is None else drawing.say(replace(fact, value=value(fact)))


def _number(drawing: _Drawing) -> str | None:
    return _with(drawing, drawing.fact("year", "metres", "crowns", "count"), drawing.other)


def _day(drawing: _Drawing) -> str | None:
    return _with(drawing, drawing.fact("day"), drawing.other)


def _value_name(drawing: _Drawing) -> str | None:
    return _with(drawing, drawing.fact("person", "place", "trade"), drawing.other)


def _subject(drawing: _Drawing) -> str | None:
    fact = drawing.fact("year", "day", "metres", "crowns", "count", "person", "place")
    others = [] if fact is None else [thing for thing in drawing.world.things if thing != fact.subject]
    return drawing.say(replace(fact, subject=drawing.rng.choice(others))) if fact and others else None


def _negated(drawing: _Drawing) -> str | None:
    fact = drawing.fact()
    if fact is None:
        return None
    if fact.relation.denies:
        return drawing.say(replace(fact, denied=True))
    said = drawing.say(fact)
    for verb in (" is ", " was ", " were ", " has ", " are "):
        if verb in said:
            return said.replace(verb, f"{verb}not ", 1)
    return f"It is not true that {said}"


def _undenied(drawing: _Drawing) -> str | None:
    denied = [fact for fact in drawing.told if fact.denied]
    return drawing.say(replace(denied[0], denied=False)) if denied else None


def _reversed(drawing: _Drawing) -> str | None:
    fact = drawing.fact("same")
    return None if fact is None else drawing.say(replace(fact, subject=fact.value, value=fact.subject))


def _unit(drawing: _Drawing) -> str | None:
    fact = drawing.fact("metres", "crowns")
    if fact is None:
        return None
    unit, others = ("metres", ("kilometres", "feet", "centimetres")) if fact.relation.value == "metres" else ("crowns", ("dollars", "euros", "million crowns"))  # fmt: skip
    return drawing.say(fact).replace(unit, drawing.rng.choice(others))


def _share(drawing: _Drawing) -> str | None:
    return _with(
        drawing,
        drawing.fact("share"),
        lambda fact: drawing.rng.choice([share for share in SHARES if share != fact.value]),
    )


def _relation(drawing: _Drawing) -> str | None:
    """The value of one relation told as that of another of the same kind, or as something no relation says."""
    fact = drawing.fact("year", "person", "place", "crowns", "count")
    if fact is None:
        return None
    alike = [
        r
        for w in (drawing.world.kind,)
        for r in _relations(drawing.world)
        if r.value == fact.relation.value and r != fact.relation
    ]
    strange = {
        "year": "{s} was rebuilt in {v}.", "person": "{v} sold {s}.", "place": "{s} was robbed in {v}.",
        "crowns": "{s} lost {v} crowns.", "count": "{s} lost {v} people.",
    }[fact.relation.value]  # fmt: skip
    wording = drawing.rng.choice([relation.wordings[0] for relation in alike] + [strange])
    return fact.said(wording)


def _relations(world: World) -> list[Relation]:
    return list(dict.fromkeys(fact.relation for fact in world.facts))


_EXTRAS = (
    ", which made it famous", " and is much admired", ", the best of its kind", ", as everyone knows", ", because of a fire", " after a long dispute",
    ", and won a prize", " and was later sold", ", to great joy", ", which caused a scandal", ", with the help of the king", ", thanks to a donor",
    " for a fee", " after work", " with a crew", ", under the command of the staff", " before the opening", ", and is visited", " and runs", " for the port",
)  # fmt: skip


def _extra(drawing: _Drawing) -> str | None:
    return f"{drawing.say(drawing.rng.choice(drawing.told))[:-1]}{drawing.rng.choice(_EXTRAS)}."


def _merged(drawing: _Drawing) -> str | None:
    """A true fact of one thing, with that of another joined to it as if it were of the first."""
    fact = drawing.fact()
    other = None if fact is None else next((each for each in drawing.told if each.subject != fact.subject and each.relation.value != "same" and each.relation != fact.relation), None)  # fmt: skip
    if fact is None or other is None:
        return None
    said, tail = drawing.say(fact), drawing.say(other)
    return (
        f"{said[:-1]}, and it{tail[len(other.subject) :]}"
        if said.startswith(fact.subject) and tail.startswith(other.subject)
        else None
    )


def _hedged(drawing: _Drawing) -> str | None:
    said = drawing.say(drawing.rng.choice(drawing.told))
    return (
        f"{drawing.rng.choice(('Perhaps', 'Some say that', 'It is possible that', 'Probably', 'Reportedly,'))} {said}"
    )


def _both(drawing: _Drawing) -> str | None:
    return _with(drawing, drawing.fact("year", "metres", "count", "person", "place"), lambda f: f"{f.value} {drawing.rng.choice(('or', 'and'))} {drawing.other(f)}")  # fmt: skip


def _asked(drawing: _Drawing) -> str | None:
    said = drawing.say(drawing.rng.choice(drawing.told))[:-1]
    return drawing.rng.choice((f"{said}?", f"Is it true that {said}?", f"{said}, is it not?"))


def _silent(drawing: _Drawing) -> str | None:
    fact = drawing.fact("year", "day", "metres", "crowns", "count", "person", "place", "trade")
    return None if fact is None else f"{drawing.rng.choice(SILENCES)} {fact.relation.asks.format(s=fact.subject)}."


def _nothing(drawing: _Drawing) -> str | None:
    return drawing.rng.choice(
        (
            "All statements are supported by the text.",
            "I hope this helps.",
            "The answer is correct.",
            "This is well documented.",
            f"{drawing.told[0].subject} is well known.",
        )
    )


def _outdated(drawing: _Drawing) -> str | None:
    return (
        drawing.say(drawing.disputed[0].outdated) if drawing.disputed and drawing.disputed[1] == "correction" else None
    )


def _unattributed(drawing: _Drawing) -> str | None:
    return drawing.say(drawing.disputed[0].fact) if drawing.disputed and drawing.disputed[1] == "conflict" else None


def _wrong_source(drawing: _Drawing) -> str | None:
    if not drawing.disputed or drawing.disputed[1] != "conflict":
        return None
    dispute = drawing.disputed[0]
    return attributed(dispute.other_source, drawing.say(dispute.fact))


def _sign(drawing: _Drawing) -> str | None:
    return _with(
        drawing,
        drawing.fact("year", "metres", "count"),
        lambda fact: f"{drawing.rng.choice(('>', '~', '±', '≠', '<'))}{fact.value}",
    )


def _pronoun(drawing: _Drawing) -> str | None:
    fact = drawing.fact("year", "metres", "count", "place")
    return None if fact is None else drawing.say(fact).replace(fact.subject, "it").capitalize()


def _vague(drawing: _Drawing) -> str | None:
    """The statement without its value, as in "X was founded"."""
    fact = drawing.fact("year", "metres", "count", "person", "place")
    said = "" if fact is None else drawing.say(fact)
    return (
        None
        if fact is None or not said.startswith(fact.subject)
        else re.sub(rf"(?: in| by)? {re.escape(fact.value)}(?: metres)?", "", said)
    )


def _copula(drawing: _Drawing) -> str | None:
    fact = drawing.fact("person", "same")
    return None if fact is None else f"{fact.subject} is {fact.value}."


CORRUPTIONS: dict[str, Callable[[_Drawing], str | None]] = {
    "number": _number, "day": _day, "name": _value_name, "subject": _subject, "negated": _negated, "undenied": _undenied,
    "reversed": _reversed, "unit": _unit, "share": _share, "relation": _relation, "extra": _extra, "merged": _merged, "hedged": _hedged,
    "outdated": _outdated, "unattributed": _unattributed, "wrong source": _wrong_source, "sign": _sign, "pronoun": _pronoun, "vague": _vague, "both": _both, "question": _asked, "silent": _silent, "no claim": _nothing, "no relation": _copula,
}  # fmt: skip
"""Ways to make a sentence unsupported. Each gives None where the world has nothing for it."""
