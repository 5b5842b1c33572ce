"""From sentences to claims: clauses with the names, numbers and words they have.

The reading is shallow, by rule, and the same for context and reply. What it cannot make sense of stays in the clause as a word that
nothing in the context matches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from openk2.gym.faithfulness.grammar import (
    ASKING,
    has_own_subject,
    is_silent,
    parts,
    take_source,
    turned,
    without_expletive,
    without_lead,
)
from openk2.gym.faithfulness.lexicon import (
    ABOUT_SAYING,
    BOUNDS,
    FUNCTION,
    HEDGES,
    INVERSE,
    NEGATIONS,
    QUANTIFIERS,
    ROLES,
    UNITS,
    groups_of,
)
from openk2.gym.faithfulness.tokens import Names, Token, sentences, tokens

_PRONOUNS = ("it", "he", "she", "they", "him", "them")
_POSSESSIVES = ("its", "his", "her", "their")


@dataclass(frozen=True, slots=True)
class Clause:
    """One claim: whom it names, in order, with which numbers and words, and what turns it."""

    names: tuple[str, ...] = ()
    numbers: tuple[tuple[str, str], ...] = ()  # value and unit; a day of the year is a value "@day-month"
    words: frozenset[str] = frozenset()
    negations: int = 0
    quantifiers: frozenset[str] = frozenset()
    hedges: frozenset[str] = frozenset()
    strange: int = 0
    turned: bool = False  # the second name is the one that acts
    question: bool = False
    silent: bool = False  # says that the context does not tell
    asks: str = ""  # what it does not tell: "when", "who", …
    dangling: bool = False  # speaks of "it" where nothing was named
    source: str = ""  # whose word it is: "according to …"

    @property
    def subject(self) -> str:
        """The first name, empty without one."""
        return self.names[0] if self.names else ""

    @property
    def values(self) -> frozenset[str]:
        """Its numbers, without units."""
        return frozenset(value for value, _ in self.numbers)

    @property
    def groups(self) -> frozenset[str]:
        """What its words can be about."""
        return frozenset[str]().union(*(groups_of(word) for word in self.words))


def read_context(context: str) -> tuple[list[Clause], Names]:
    """The clauses of a context and the names in it. A line that is a JSON object or array is read as records."""
    lines: list[str] = []
    for line in context.splitlines():
        lines += _records(line) if line.lstrip().startswith(("{", "[")) else sentences(line)
    names = Names.of(lines)
    return Reader(names).read(lines), names


class Reader:
    """Reads sentences in order; "it" and sentences that begin without a name go with the last subject."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._subject = ""

    def read(self, lines: Sequence[str]) -> list[Clause]:
        """All clauses of the sentences."""
        return [clause for line in lines for clause in self.clauses(line)]

    def clauses(self, sentence: str) -> list[Clause]:
        """The claims of one sentence; none where it only names what the next ones are about, or says nothing at all."""
        question = "?" in sentence
        read = without_lead(tokens(sentence, self._names))
        if len(read) == 1 and read[0][0] == "name" and read[0][1] in self._names.all and not question:
            self._subject = read[0][1]
            return []
        clauses = [self._clause(part, place == 0) for place, part in enumerate(parts(read))]
        found = [replace(clause, question=question) for clause in clauses if clause is not None]
        return found or ([Clause(question=True)] if question else [])

    def _clause(self, part: list[Token], first: bool) -> Clause | None:
        silent = is_silent(part)
        asks = next((value for kind, value in part if kind == "word" and value in ASKING), "") if silent else ""
        part, source = take_source(part)
        part, dangling, subject = self._with_subject(without_expletive(part), first)
        names = tuple(dict.fromkeys(value for kind, value in part if kind == "name"))
        clause = Clause(names=names, turned=turned(part), silent=silent, asks=asks, dangling=dangling, source=source)
        clause = _with_words(clause, part)
        if not (
            names
            or clause.numbers
            or clause.words
            or clause.strange
            or clause.hedges
            or clause.negations
            or clause.quantifiers
        ):
            return clause if silent else None
        self._subject = subject or clause.subject or self._subject
        return clause

    def _with_subject(self, part: list[Token], first: bool) -> tuple[list[Token], bool, str]:
        """Put the name of what is spoken of where a pronoun or nothing stands; whether that failed; who stays the subject."""
        for place, (kind, value) in enumerate(part):
            if kind != "word" or value not in (*_PRONOUNS, *_POSSESSIVES):
                continue
            before = [name for kind, name in part[:place] if kind == "name"]
            of_another = place + 1 < len(part) and part[place + 1][1] in ROLES  # "X was her pupil"
            if before and value in _POSSESSIVES and not of_another:
                return [*part[:place], *part[place + 1 :]], False, ""
            if not self._subject or self._subject in before:
                return part, True, ""
            tail = [("word", "'s")] if value in _POSSESSIVES else []
            return [*part[:place], ("name", self._subject), *tail, *part[place + 1 :]], False, self._subject
        if not self._subject or has_own_subject(part, first):
            return part, False, ""
        return [("name", self._subject), *part], False, ""


def _with_words(clause: Clause, part: Sequence[Token]) -> Clause:
    """The clause with what each of its words does."""
    numbers: list[tuple[str, str]] = []
    words, quantifiers, hedges = set[str](), set[str](), set[str]()
    negations = strange = 0
    for (kind, value), before, after in zip(part, [("", ""), *part], [*part[1:], ("", "")], strict=False):
        if kind in ("number", "date"):
            numbers.append((value, UNITS.get(after[1], "")))
        elif kind == "strange":
            strange += 1
        elif kind != "word" or value == "'s":
            continue
        elif after[0] in ("number", "date") and value in BOUNDS:
            quantifiers.add(value)
        elif value in NEGATIONS or value.endswith("n't"):
            negations += 1
        elif value in HEDGES:
            hedges.add(value)
        elif value in QUANTIFIERS:
            quantifiers.add(QUANTIFIERS[value])
        elif (value, after[0]) in (("in", "name"), ("on", "date")):
            words.add(f"{value}@")
        elif value not in FUNCTION and not (value in UNITS and (before[0] == "number" or before[1] in UNITS)):
            words.add(value)
            strange += value in INVERSE and len(clause.names) < 2  # "80 metres lower" than what?
    if clause.silent:
        words -= ABOUT_SAYING
        hedges -= {"whether", "if", "or", "say"}
        negations = max(0, negations - 1)
        quantifiers.clear()
        if clause.asks == "where" and not words:
            words.add("in@")
    return replace(
        clause, numbers=tuple(numbers), words=frozenset(words), negations=negations, quantifiers=frozenset(quantifiers),
        hedges=frozenset(hedges), strange=strange,
    )  # fmt: skip


def _records(line: str) -> Iterator[str]:
    """A sentence for each field of each record of a JSON line: "NAME's field is value"."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        yield from sentences(line)
        return
    for record in data if isinstance(data, list) else [data]:
        if isinstance(record, dict) and "name" in record:
            for key, value in record.items():
                if key != "name":
                    yield f"{record['name']}'s {key.replace('_', ' ')} is {value}"
        else:
            yield json.dumps(record)
