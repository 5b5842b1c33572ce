"""Questions about invented texts and records, and what an answer has to state (K2 §3.2, faithfulness)."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence

from openk2.gym.faithfulness.disputes import DISPUTABLE, SOURCES, Dispute, conflicting, corrected
from openk2.gym.faithfulness.pairs import context_of
from openk2.gym.faithfulness.world import KINDS, RELATIONS, Fact, Relation, World, draw_value, draw_world, name_of, seen
from openk2.gym.single_turn import Generator, Question
from openk2.schema import JSON, Message, ToolCall

_NUM_ITEMS = {1: 2, 2: 3, 3: 4}
_NUM_THINGS = {1: 4, 2: 5, 3: 6}
_NUM_ALIKE = {1: 0, 2: 1, 3: 3}
_TOLD = 0.9  # of what is not asked for
TEXT = """{context}

Question: Please say {asked}.

Answer in whole sentences that give the names, in {most} words at most. Say only what the text says; what it does not say, say that it does not. Where sources differ, give each with its name."""
RECORDS = """Please look up and say {asked}.

Answer in whole sentences that give the names, in {most} words at most. Say only what the records say; what they do not say, say that they do not."""


def relation(key: str) -> Relation:
    """A relation by its key."""
    return next(each for each in RELATIONS if each.key == key)


class _Draft:
    """A task in the making: what is told, and what is asked for."""

    def __init__(self, rng: random.Random, level: int) -> None:
        self.rng, self.level = rng, level
        self.world: World = draw_world(rng, rng.choice(KINDS), _NUM_THINGS[level], num_alike=_NUM_ALIKE[level])
        self.asked: list[JSON] = []
        self.dropped: list[Fact] = []
        self._used: set[tuple[str, str]] = set()

    def choose(self, subject: str, fits: Callable[[Fact], bool] = lambda fact: True) -> Fact:
        """A fact of ``subject`` that nobody has asked for yet; of another thing where none is left."""
        free = [fact for fact in self.world.facts if (fact.subject, fact.relation.key) not in self._used and fits(fact)]
        fact = self.rng.choice([fact for fact in free if fact.subject == subject] or free)
        self._used.add((fact.subject, fact.relation.key))
        return fact

    def ask(self, fact: Fact, kind: str = "fact", source: str = "") -> None:
        """Demand a fact of the answer. ``options`` are the values that the relation has in this world."""
        options = sorted({each.value for each in self.world.facts if each.relation == fact.relation})
        self.asked.append({
            "kind": kind, "subject": fact.subject, "relation": fact.relation.key, "value": fact.value, "denied": fact.denied,
            "source": source, "options": options,
        })  # fmt: skip

    def say(self, fact: Fact) -> str:
        return fact.said(self.rng.choice(seen(fact.relation)))

    def told(self) -> list[Fact]:
        """What the text says: all that is asked for, and most of the rest."""
        return [
            fact for fact in self.world.facts
            if fact not in self.dropped and ((fact.subject, fact.relation.key) in self._used or self.rng.random() < _TOLD)
        ]  # fmt: skip

    @property
    def most_words(self) -> int:
        """Of an answer: about two sentences for each demand, and always far less than the context has."""
        return 14 + 11 * len(self.asked)

    def asks(self) -> str:
        phrases = [relation(item["relation"]).asks.format(s=item["subject"], v=item["value"]) for item in self.asked]
        phrases = list(dict.fromkeys(phrases))
        self.rng.shuffle(phrases)
        return ", ".join(phrases[:-1]) + (", and " if len(phrases) > 2 else " and ") * (len(phrases) > 1) + phrases[-1]

    def question(self, context: str, frame: str, messages: Sequence[Message] = ()) -> Question:
        """The finished task. ``messages`` are what is shown where that is more than the question."""
        text = frame.format(context=context, asked=self.asks(), most=self.most_words)
        key = "; ".join(sorted(f"{i['subject']} {i['relation']} {i['value']}" for i in self.asked))
        facts: JSON = {"context": context, "items": self.asked, "most_words": self.most_words}
        if messages:
            facts["messages"] = [Message("user", text).to_json(), *(message.to_json() for message in messages)]
        return Question(text, key, key, facts=facts)


def _lookup(rng: random.Random, level: int) -> Question:
    """Several facts of one thing."""
    draft = _Draft(rng, level)
    subject = draft.world.things[0]
    for _ in range(_NUM_ITEMS[level]):
        draft.ask(draft.choose(subject))
    return draft.question(context_of(rng, [draft.say(fact) for fact in draft.told()]), TEXT)


def _pair(rng: random.Random, level: int) -> Question:
    """Facts of two things, which from level 2 on are named almost alike."""
    draft = _Draft(rng, level)
    for place in range(_NUM_ITEMS[level]):
        draft.ask(draft.choose(draft.world.things[place % 2]))
    return draft.question(context_of(rng, [draft.say(fact) for fact in draft.told()]), TEXT)


def _missing(rng: random.Random, level: int) -> Question:
    """One of the facts is not in the text, though the text says it of other things."""
    draft = _Draft(rng, level)
    subject = draft.world.things[0]
    untold = draft.choose(subject, _can_miss)
    draft.dropped.append(untold)
    draft.ask(untold, "missing")
    for _ in range(_NUM_ITEMS[level] - 1):
        draft.ask(draft.choose(subject))
    return draft.question(context_of(rng, [draft.say(fact) for fact in draft.told()]), TEXT)


def _correction(rng: random.Random, level: int) -> Question:
    """The text corrects one of the facts: the first value is no longer what it says."""
    draft, dispute = _disputed(rng, level)
    draft.ask(dispute.fact)
    return _two_ways(draft, corrected(dispute, draft.say))


def _conflict(rng: random.Random, level: int) -> Question:
    """Two sources differ on one of the facts: both are to be given with their names."""
    draft, dispute = _disputed(rng, level)
    draft.ask(dispute.fact, "sourced", dispute.source)
    draft.ask(dispute.outdated, "sourced", dispute.other_source)
    return _two_ways(draft, conflicting(dispute, draft.say))


def _records(rng: random.Random, level: int) -> Question:
    """What tools gave back: a record for each thing, without one of the facts at times."""
    draft = _Draft(rng, level)
    subjects = draft.world.things[:2] if level > 1 else draft.world.things[:1]
    if missing := rng.random() < 0.4:
        untold = draft.choose(subjects[0], _can_miss)
        draft.dropped.append(untold)
        draft.ask(untold, "missing")
    for place in range(missing, _NUM_ITEMS[level]):
        draft.ask(draft.choose(subjects[place % len(subjects)], lambda fact: fact.relation.value != "pact"))
    told = draft.told()
    records = [record_of(thing, told) for thing in draft.world.things]
    calls = [
        ToolCall(f"functions.look_up:{place}", "look_up", json.dumps({"kind": draft.world.kind, "page": place + 1}))
        for place in range(2)
    ]
    middle = len(records) // 2
    pages = [json.dumps(page, ensure_ascii=False) for page in (records[:middle], records[middle:])]
    results = [call.answered(page) for call, page in zip(calls, pages, strict=True)]
    return draft.question("\n".join(pages), RECORDS, [Message("assistant", tool_calls=calls), *results])


GENERATORS: dict[str, Generator] = {
    "lookup": _lookup, "pair": _pair, "missing": _missing, "correction": _correction, "conflict": _conflict, "records": _records,
}  # fmt: skip


def record_of(thing: str, told: Sequence[Fact]) -> JSON:
    """A thing's facts as a record; a pact goes without."""
    units = {"metres": " metres", "crowns": " crowns"}
    return {"name": thing} | {
        fact.relation.field: f"{fact.value}{units.get(fact.relation.value, '')}"
        for fact in told
        if fact.subject == thing and fact.relation.value != "pact"
    }


def _can_miss(fact: Fact) -> bool:
    return fact.relation.value not in ("pact", "same")


def _disputed(rng: random.Random, level: int) -> tuple[_Draft, Dispute]:
    draft = _Draft(rng, level)
    subject = draft.world.things[0]
    fact = draft.choose(subject, lambda fact: fact.relation.value in DISPUTABLE)
    for _ in range(_NUM_ITEMS[level] - 1):
        draft.ask(draft.choose(subject))
    draft.dropped.append(fact)
    taken = {each.value for each in draft.world.facts}
    older = next(value for _ in itertools.count() if (value := draw_value(rng, fact.relation)) not in taken)
    return draft, Dispute(fact, older, *(f"{name_of(rng)} {noun}" for noun in SOURCES))


def _two_ways(draft: _Draft, ways: tuple[str, str]) -> Question:
    """The text with one way at its beginning and the other at its end."""
    middle = context_of(draft.rng, [draft.say(fact) for fact in draft.told()])
    return draft.question("\n\n".join((ways[0], middle, ways[1])), TEXT)
