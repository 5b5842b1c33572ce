"""Invented worlds of plain facts, and the sentences that state them.

Nothing in them can be known from elsewhere: names, years, sums and places are drawn. A relation has several wordings; the last
two of each are never seen in training the judge, only in measuring it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Value = Literal["year", "day", "metres", "crowns", "count", "person", "place", "trade", "share", "pact", "same"]
NUM_UNSEEN = 2  # wordings of each relation that training the judge leaves out


@dataclass(frozen=True, slots=True)
class Relation:
    """What can be said of a kind of thing.

    ``wordings`` have {s} and {v}; ``asks`` completes "say …"; ``field`` names it in a record. ``denies`` is the one wording that
    says the opposite, where there is one. Value "same" is another thing of the subject's kind: the two can be swapped.
    """

    key: str
    about: str
    value: Value
    asks: str
    field: str
    wordings: tuple[str, ...]
    denies: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One true statement of a world. ``denied`` facts say that it is not so."""

    subject: str
    relation: Relation
    value: str
    denied: bool = False

    def said(self, wording: str) -> str:
        """The sentence, in one of the relation's wordings."""
        sentence = (self.relation.denies if self.denied else wording).format(s=self.subject, v=self.value)
        return sentence[0].upper() + sentence[1:]


RELATIONS: tuple[Relation, ...] = (
    # firms
    Relation("founded", "firm", "year", "when {s} was founded", "founded", (
        "{s} was founded in {v}.", "{s} was established in {v}.", "The founding year of {s} is {v}.",
        "{s} was set up in {v}.", "{s} has existed since {v}.")),
    Relation("founder", "firm", "person", "who founded {s}", "founder", (
        "{v} founded {s}.", "{s} was founded by {v}.", "The founder of {s} is {v}.",
        "{s} was set up by {v}.", "{v} is the founder of {s}.")),
    Relation("seat", "firm", "place", "where {s} has its head office", "head_office", (
        "{s} has its head office in {v}.", "{s} is based in {v}.", "The head office of {s} is in {v}.",
        "{s} is headquartered in {v}.", "The headquarters of {s} are in {v}.")),
    Relation("staff", "firm", "count", "how many people {s} employs", "employees", (
        "{s} employs {v} people.", "{v} people work at {s}.", "{s} has {v} employees.",
        "{s} has a staff of {v} people.", "{v} workers are employed by {s}.")),
    Relation("income", "firm", "crowns", "what {s} earned last year", "earned_last_year", (
        "{s} earned {v} crowns last year.", "Last year {s} earned {v} crowns.", "The income of {s} last year was {v} crowns.",
        "{s} had an income of {v} crowns last year.", "Last year {s} took in {v} crowns.")),
    Relation("supplies", "firm", "same", "which firm {s} supplies", "supplies", (
        "{s} supplies {v}.", "{v} is supplied by {s}.", "{s} delivers to {v}.",
        "{v} buys from {s}.", "{s} is the supplier of {v}.")),
    Relation("signed", "firm", "pact", "whether {s} signed the {v}", "signed", (
        "{s} signed the {v}.", "The {v} was signed by {s}.", "{s} has signed the {v}.",
        "{s} put its signature to the {v}.", "{s} is a signatory of the {v}."),
        denies="{s} did not sign the {v}."),
    # buildings
    Relation("height", "building", "metres", "how high {s} is", "height", (
        "{s} is {v} metres high.", "{s} is {v} metres tall.", "The height of {s} is {v} metres.",
        "{s} has a height of {v} metres.", "{s} rises {v} metres.")),
    Relation("built", "building", "year", "when {s} was completed", "completed", (
        "{s} was completed in {v}.", "{s} was finished in {v}.", "The completion of {s} was in {v}.",
        "Builders finished {s} in {v}.", "Work on {s} ended in {v}.")),
    Relation("architect", "building", "person", "who designed {s}", "architect", (
        "{v} designed {s}.", "{s} was designed by {v}.", "The architect of {s} is {v}.",
        "{s} was drawn by {v}.", "{v} is the architect of {s}.")),
    Relation("stands", "building", "place", "where {s} stands", "town", (
        "{s} stands in {v}.", "{s} is located in {v}.", "{s} is in {v}.",
        "{s} is situated in {v}.", "{s} can be found in {v}.")),
    Relation("cost", "building", "crowns", "what {s} cost", "cost", (
        "{s} cost {v} crowns.", "The cost of {s} was {v} crowns.", "{v} crowns were paid for {s}.",
        "The price of {s} was {v} crowns.", "{v} crowns were spent on {s}.")),
    Relation("taller", "building", "same", "which building {s} is taller than", "taller_than", (
        "{s} is taller than {v}.", "{v} is shorter than {s}.", "{s} is higher than {v}.",
        "{v} is lower than {s}.", "{s} overtops {v}.")),
    # people
    Relation("born", "person", "year", "when {s} was born", "born", (
        "{s} was born in {v}.", "The birth of {s} was in {v}.", "The year of birth of {s} is {v}.",
        "{s} came into the world in {v}.", "{s} has {v} as year of birth.")),
    Relation("lives", "person", "place", "where {s} lives", "home", (
        "{s} lives in {v}.", "The home of {s} is in {v}.", "{s} has a home in {v}.",
        "{s} resides in {v}.", "{s} is a resident of {v}.")),
    Relation("trade", "person", "trade", "what {s} works as", "profession", (
        "{s} works as a {v}.", "{s} is a {v} by trade.", "The profession of {s} is {v}.",
        "{s} is employed as a {v}.", "The occupation of {s} is {v}.")),
    Relation("taught", "person", "same", "whom {s} taught", "pupil", (
        "{s} taught {v}.", "{v} was taught by {s}.", "{v} was a pupil of {s}.",
        "{v} was a student of {s}.", "{s} was the teacher of {v}.")),
    Relation("older", "person", "same", "who is younger than {s}", "older_than", (
        "{s} is older than {v}.", "{v} is younger than {s}.", "{s} was born before {v}.",
        "{v} was born after {s}.", "{s} is senior to {v}.")),
    # festivals
    Relation("day", "festival", "day", "on which day {s} begins", "begins", (
        "{s} begins on {v}.", "{s} starts on {v}.", "The first day of {s} is {v}.",
        "{s} opens on {v}.", "The opening day of {s} is {v}.")),
    Relation("venue", "festival", "place", "where {s} is held", "venue", (
        "{s} is held in {v}.", "{s} takes place in {v}.", "The venue of {s} is {v}.",
        "{v} hosts {s}.", "{s} happens in {v}.")),
    Relation("visitors", "festival", "count", "how many visitors {s} drew", "visitors", (
        "{s} drew {v} visitors.", "{v} visitors came to {s}.", "{s} had {v} visitors.",
        "{s} attracted {v} visitors.", "{s} was visited by {v} people.")),
    Relation("organiser", "festival", "person", "who organises {s}", "organiser", (
        "{v} organises {s}.", "{s} is organised by {v}.", "The organiser of {s} is {v}.",
        "{v} runs {s}.", "{v} is the organiser of {s}.")),
    Relation("entry", "festival", "crowns", "what entry to {s} costs", "entry_fee", (
        "Entry to {s} costs {v} crowns.", "The entry fee of {s} is {v} crowns.", "{s} charges {v} crowns for entry.",
        "Admission to {s} costs {v} crowns.", "A ticket for {s} costs {v} crowns.")),
    # ships
    Relation("length", "ship", "metres", "how long {s} is", "length", (
        "{s} is {v} metres long.", "The length of {s} is {v} metres.", "{s} has a length of {v} metres.",
        "{s} measures {v} metres in length.", "{s} is {v} metres from end to end.")),
    Relation("launched", "ship", "year", "when {s} was launched", "launched", (
        "{s} was launched in {v}.", "The launch of {s} was in {v}.", "{s} first went to sea in {v}.",
        "{s} left the yard in {v}.", "{s} was put to sea in {v}.")),
    Relation("captain", "ship", "person", "who commands {s}", "captain", (
        "{v} commands {s}.", "{s} is commanded by {v}.", "The captain of {s} is {v}.",
        "{v} is the captain of {s}.", "{s} is under the command of {v}.")),
    Relation("crew", "ship", "count", "how many sailors {s} carries", "crew", (
        "{s} carries {v} sailors.", "The crew of {s} is {v} sailors.", "{s} has a crew of {v} sailors.",
        "{v} sailors serve on {s}.", "{s} is sailed by {v} sailors.")),
    Relation("port", "ship", "place", "where the home port of {s} is", "home_port", (
        "The home port of {s} is {v}.", "{s} has its home port in {v}.", "{s} has {v} as its home port.",
        "{v} is the home port of {s}.", "{s} is at home in the port of {v}.")),
    Relation("lifeboats", "ship", "share", "how many of the lifeboats of {s} passed the inspection", "lifeboats_passed", (
        "{v} of the lifeboats of {s} passed the inspection.", "On {s}, {v} of the lifeboats passed the inspection.",
        "The inspection was passed by {v} of the lifeboats of {s}.",
        "{v} of the lifeboats on {s} got through the inspection.", "In the inspection, {v} of the lifeboats of {s} passed.")),
)  # fmt: skip
"""Every relation; all of one kind of thing (``about``) may be told of each thing of that kind."""

KINDS = ("firm", "building", "person", "festival", "ship")
SHARES = ("all", "most", "half", "none")
_TRADES = ("baker", "potter", "tailor", "glazier", "weaver", "miller", "printer", "joiner", "mason", "saddler")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")  # fmt: skip
_NOUNS = {
    "firm": ("Mill", "Foundry", "Brewery", "Press"), "building": ("Tower", "Hall", "Lighthouse", "Bridge"),
    "festival": ("Fair", "Regatta", "Carnival", "Games"), "ship": ("Swan", "Heron", "Falcon", "Gull"),
}  # fmt: skip
_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "sk",
    "t",
    "tr",
    "v",
    "w",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ou")
_CODAS = ("ck", "d", "l", "lm", "m", "n", "nd", "r", "rn", "s", "sk", "t", "th", "v", "x")


def name_of(rng: random.Random, onsets: Sequence[str] = _ONSETS) -> str:
    """An invented word of two syllables such as "Dravolm", with one of ``onsets`` at its beginning."""
    parts = (rng.choice(onsets), rng.choice(_VOWELS), rng.choice(_ONSETS), rng.choice(_VOWELS), rng.choice(_CODAS))
    return "".join(parts).capitalize()


def alike(rng: random.Random, name: str) -> str:
    """A word that differs from ``name`` in its end alone: easily taken for it."""
    stem = name.rstrip("bcdfghjklmnpqrstvwxz")
    return next(other for coda in rng.sample(_CODAS, len(_CODAS)) if (other := stem + coda) != name)


@dataclass(frozen=True, slots=True)
class World:
    """Things of one kind, and every fact that holds of them: one for each relation of the kind and each thing."""

    kind: str
    things: tuple[str, ...]
    facts: tuple[Fact, ...]

    def fact(self, subject: str, key: str) -> Fact:
        """The fact of a thing and a relation."""
        return next(fact for fact in self.facts if fact.subject == subject and fact.relation.key == key)


def relations_of(kind: str) -> tuple[Relation, ...]:
    """What can be said of a kind of thing."""
    return tuple(relation for relation in RELATIONS if relation.about == kind)


def draw_world(
    rng: random.Random, kind: str, num_things: int, *, num_alike: int = 0, onsets: Sequence[str] = _ONSETS
) -> World:
    """``num_things`` things with all their facts; the first ``num_alike`` of the others are named almost as the first is.

    No two things share a value that is a number, a day or a name, so a value tells whose it is.
    """
    things = _name_things(rng, kind, num_things, num_alike, onsets)
    order = tuple(rng.sample(things, num_things))
    pact = f"{name_of(rng, onsets)} Pact"
    facts = []
    for relation in relations_of(kind):
        taken: set[str] = set()
        for place, thing in enumerate(order):
            if relation.value == "same":
                if place == num_things - 1:
                    continue  # a chain has an end
                value = order[place + 1]
            elif relation.value == "pact":
                value = pact
            else:
                value = _fresh(rng, relation, taken, onsets)
            facts.append(Fact(thing, relation, value, denied=relation.value == "pact" and rng.random() < 0.5))
    return World(kind, tuple(things), tuple(facts))


def draw_value(rng: random.Random, relation: Relation, onsets: Sequence[str] = _ONSETS) -> str:
    """A value of the relation's kind; for "same" and "pact" there is none to draw."""
    match relation.value:
        case "year":
            return str(rng.randint(1780, 1995))
        case "day":
            return f"{rng.randint(1, 28)} {rng.choice(_MONTHS)}"
        case "metres":
            return str(rng.randint(24, 190))
        case "crowns":
            return f"{rng.randint(11, 990) * 10:,}" if rng.random() < 0.5 else str(rng.randint(12, 990))
        case "count":
            return str(rng.randint(21, 980))
        case "person":
            return f"{name_of(rng, onsets)} {name_of(rng, onsets)}"
        case "place":
            return name_of(rng, onsets)
        case "trade":
            return rng.choice(_TRADES)
        case "share":
            return rng.choice(SHARES)
    raise ValueError(f"a value of {relation.key} is not drawn alone")


def _fresh(rng: random.Random, relation: Relation, taken: set[str], onsets: Sequence[str]) -> str:
    while True:
        value = draw_value(rng, relation, onsets)
        if value not in taken or relation.value in ("trade", "share"):
            taken.add(value)
            return value


def _name_things(rng: random.Random, kind: str, count: int, num_alike: int, onsets: Sequence[str]) -> list[str]:
    noun, first = rng.choice(_NOUNS.get(kind, ("",))), name_of(rng, onsets)
    family = name_of(rng, onsets)
    names = {first: None}
    while len(names) < count:
        names[alike(rng, first) if len(names) <= num_alike else name_of(rng, onsets)] = None
    if kind == "person":
        return [f"{name} {family if place <= num_alike else name_of(rng, onsets)}" for place, name in enumerate(names)]
    return [f"{name} {noun}" for name in names]


SEEN_ONSETS, UNSEEN_ONSETS = _ONSETS[:-8], _ONSETS[-8:]
"""How names in training the judge begin, and how those in measuring it do."""


def seen(relation: Relation) -> Sequence[str]:
    """The wordings that training may use."""
    return relation.wordings[:-NUM_UNSEEN]


def unseen(relation: Relation) -> Sequence[str]:
    """The wordings kept for measuring."""
    return relation.wordings[-NUM_UNSEEN:]
