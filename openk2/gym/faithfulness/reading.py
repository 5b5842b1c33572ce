"""From text to claims: sentences, and in each the clauses with their names, numbers and words.

The reading is shallow and the same for context and reply. What it cannot make sense of stays in the clause as a strange word, which
nothing in the context matches.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from openk2.gym.faithfulness.lexicon import (
    ABOUT_SAYING,
    ATTRIBUTES,
    FUNCTION,
    HEDGES,
    INVERSE,
    NEGATIONS,
    POSSESSIONS,
    QUANTIFIERS,
    ROLES,
    SAYING,
    UNITS,
    groups_of,
)

_UNSEEN = {"Cc", "Cf", "Co", "Cn", "Cs"}  # categories of characters that a reader does not see
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "|".join(month.capitalize() for month in _MONTHS)
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+(?=\S)")
_MARKS = re.compile(r"^\s*(?:[-+*•>#]+\s+|\d{1,2}[.)]\s+)*")
_TOKEN = re.compile(
    r"(?P<date>@\d{1,2}-\d{1,2})|(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*)"
    r"|(?P<break>[,;:()\[\]|—–])|(?P<quiet>[\s.!?\"“”*_`#'’-])|(?P<strange>.)",
    re.DOTALL,
)
_BREAKS = {"and", "but", "while", "whereas", "which", "who", "whose", "although", "though", "however", "because", "plus"}
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORDS = {word: number for number, word in enumerate(_ONES) if number > 1} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_RELATIVE = ("which", "who", "whose")
_ASKING = ("when", "where", "who", "whom", "which", "how", "what", "whose")
_ARTICLES = ("a", "an", "the", "also", "then", "is", "are", "was", "were", "has")
_BEFORE_NAMES = ("", "according", "in", "on", "at", "to", "for", "of", "from")
_PRONOUNS = {"it", "he", "she", "they", "him", "them"}
_POSSESSIVES = {"its", "his", "her", "their"}
_VERBS = frozenset("is are was were be been has have had do does did cost draws drew drawn built set born left ran runs put took made".split())


@dataclass(frozen=True, slots=True)
class Clause:
    """One claim: whom it names, in order, with which numbers and words, and what turns it."""

    text: str
    names: tuple[str, ...] = ()
    numbers: tuple[tuple[str, str], ...] = ()  # value and unit; a day of the year is a value "@day-month"
    words: frozenset[str] = frozenset()
    negations: int = 0
    quantifiers: frozenset[str] = frozenset()
    hedges: frozenset[str] = frozenset()
    strange: int = 0
    turned: bool = False  # the second name is the one that does
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
    def groups(self) -> frozenset[str]:
        """What its words can be about."""
        return frozenset[str]().union(*(groups_of(word) for word in self.words))


@dataclass(slots=True)
class Names:
    """The names a context has, by their casefolded words."""

    known: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Know a name."""
        self.known[tuple(name.casefold().split())] = name

    def at(self, words: Sequence[str]) -> tuple[str, int] | None:
        """The longest known name that ``words`` begin with, and its length; a last or first word alone when only one has it."""
        for length in range(min(4, len(words)), 0, -1):
            key = tuple(words[:length])
            if key in self.known:
                return self.known[key], length
            fits = {name for known, name in self.known.items() if len(known) > length and key in (known[:length], known[-length:])}
            if len(fits) == 1 and key[0] not in FUNCTION and not groups_of(key[0]):
                return fits.pop(), length
        return None


def hidden(text: str) -> bool:
    """Whether a text has characters that a reader does not see."""
    return any(unicodedata.category(character) in _UNSEEN for character in text if character not in "\n\r\t")


def sentences(text: str) -> list[str]:
    """The sentences of a text; every line, heading, list item and table row is at least one."""
    found = []
    for line in unicodedata.normalize("NFKC", text).splitlines():
        bare = _MARKS.sub("", line)
        found += [sentence.strip() for sentence in _SENTENCE_END.split(bare) if any(map(str.isalnum, sentence)) or sentence.strip(" .!?*_`#-=|:")]
    return found


def read_context(context: str) -> tuple[list[Clause], Names]:
    """The clauses of a context and the names in it. A line that is a JSON object or array is read as records."""
    lines: list[str] = []
    for line in context.splitlines():
        lines += list(_records(line)) if line.lstrip().startswith(("{", "[")) else sentences(line)
    names = Names()
    for line in lines:
        for name in _capitalised(line):
            names.add(name)
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
        """The claims of one sentence; none where it only names something."""
        tokens = self._tokens(sentence)
        question = "?" in sentence
        found: list[Clause] = []
        for place, part in enumerate(self._parts(tokens)):
            clause = self._clause(part, place == 0)
            if clause is not None:
                found.append(replace(clause, question=question))
        if question and not found:
            found.append(Clause(sentence, question=True))
        return found

    # -- tokens ---------------------------------------------------------------------------------

    def _tokens(self, sentence: str) -> list[tuple[str, str]]:
        """Kinds and values: name, number, date, word, break, strange."""
        text = re.sub(r"\bup to\b", "upto", unicodedata.normalize("NFKC", sentence).replace("’", "'"))
        text = _DAY_FIRST.sub(lambda m: f" @{int(m[1])}-{_MONTHS.index(m[2].lower()) + 1} ", text)
        text = _MONTH_FIRST.sub(lambda m: f" @{int(m[2])}-{_MONTHS.index(m[1].lower()) + 1} ", text)
        raw = [(m.lastgroup or "strange", m.group()) for m in _TOKEN.finditer(text) if m.lastgroup != "quiet"]
        raw = list(_spelled(raw))
        tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(raw):
            kind, value = raw[place]
            if kind == "word":
                run = [word for _, word in _while_words(raw[place : place + 6])]
                hit = self._names.at([_bare(word) for word in run])
                capitals = _leading_capitals(run)
                if capitals > (hit[1] if hit else 0):
                    tokens.append(("name", " ".join(run[:capitals])))  # one that the context lacks
                    place += capitals
                    continue
                if hit is not None:
                    tokens.append(("name", hit[0]))
                    if raw[place + hit[1] - 1][1].casefold().endswith(("'s", "s'")):
                        tokens.append(("word", "'s"))
                    place += hit[1]
                    continue
                kind, value = ("word" if value.isascii() else "strange"), value.casefold()
            tokens.append((kind, value.replace(",", "") if kind == "number" else value))
            place += 1
        return tokens

    # -- clauses --------------------------------------------------------------------------------

    def _parts(self, tokens: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
        """Tokens of each clause: fragments joined to what they belong to, coordination written out."""
        silent = bool(SAYING.search(" ".join(value for _, value in tokens)))
        raw: list[list[tuple[str, str]]] = [[]]
        joins: list[str] = [""]
        for kind, value in tokens:
            if kind == "break" or (kind == "word" and value in _BREAKS and not (silent and value in _ASKING)):
                if raw[-1]:
                    raw.append([])
                    joins.append(value)
                else:
                    joins[-1] = value
            else:
                raw[-1].append((kind, value))
        parts: list[list[tuple[str, str]]] = []
        pending: list[list[tuple[str, str]]] = []
        named = ""
        for join, part in zip(joins, raw, strict=True):
            if not part:
                continue
            if join in _RELATIVE and named:
                part = _relative(join, part, named)
            named = next((value for kind, value in reversed(part) if kind == "name"), named)
            if _complete(part):
                heads = [each for each in pending if len(each) == 1 and each[0][0] == "name"]
                if join == "and" and heads and len(heads) == len(pending) and part[0][0] == "name":
                    parts += [[head[0], *part[1:]] for head in heads]
                    parts.append(part)
                else:
                    parts.append([token for each in pending for token in each] + part)
                pending = []
            elif parts and join != ":":
                parts.append(_instead(parts[-1], part))
            else:
                pending.append(part)
        if pending:
            rest = [token for each in pending for token in each]
            if parts or len(rest) > 1 or rest[0][0] != "name":
                parts.append(rest)
            else:
                self._subject = rest[0][1]
        return parts

    def _clause(self, tokens: list[tuple[str, str]], first: bool) -> Clause | None:
        text = " ".join(value for _, value in tokens)
        silent = bool(SAYING.search(text))
        asks = next((value for kind, value in tokens if kind == "word" and value in _ASKING), "") if silent else ""
        tokens, source = _take_source(tokens)
        tokens, dangling = self._with_subject(_without_expletive(tokens, silent), first)
        names, numbers = [], []
        words: set[str] = set()
        quantifiers, hedges = set(), set()
        negations = strange = 0
        for place, (kind, value) in enumerate(tokens):
            following = tokens[place + 1] if place + 1 < len(tokens) else ("", "")
            if kind == "name":
                names.append(value)
            elif kind in ("number", "date"):
                unit = UNITS.get(following[1], "") if following[0] == "word" else ""
                numbers.append((value.removesuffix(".0"), unit))
            elif kind == "strange":
                strange += 1
            elif kind == "word":
                if value in NEGATIONS or value.endswith("n't"):
                    negations += 1
                elif value in HEDGES:
                    hedges.add(value)
                elif value in QUANTIFIERS:
                    quantifiers.add(QUANTIFIERS[value])
                elif (value, following[0]) in (("in", "name"), ("on", "date")):
                    words.add(f"{value}@")
                elif value not in FUNCTION and not (value in UNITS and place and (tokens[place - 1][0] == "number" or tokens[place - 1][1] in UNITS)) and value != "'s":
                    words.add(value)
        if silent:
            words -= ABOUT_SAYING | {"year"}
            if asks == "where" and not words:
                words.add("in@")
            hedges -= {"whether", "if", "or", "say"}
            negations = max(0, negations - 1)
        if not (names or numbers or words or strange or hedges or negations or quantifiers or silent):
            return None
        if names:
            self._subject = names[0]
        return Clause(
            text, tuple(dict.fromkeys(names)), tuple(numbers), frozenset(words), negations, frozenset(quantifiers), frozenset(hedges), strange,
            _turned(tokens), silent=silent, asks=asks, dangling=dangling, source=source,
        )  # fmt: skip

    def _with_subject(self, tokens: list[tuple[str, str]], first: bool) -> tuple[list[tuple[str, str]], bool]:
        """Put the name of what is spoken of where a pronoun or nothing stands."""
        for place, (kind, value) in enumerate(tokens):
            if kind == "word" and value in _PRONOUNS | _POSSESSIVES:
                if any(kind == "name" for kind, _ in tokens[:place]):
                    return [*tokens[:place], *tokens[place + 1 :]], value in _PRONOUNS
                if not self._subject:
                    return tokens, True
                tail = [("word", "'s")] if value in _POSSESSIVES else []
                return [*tokens[:place], ("name", self._subject), *tail, *tokens[place + 1 :]], False
        if not self._subject or _has_own_subject(tokens, first):
            return tokens, False
        return [("name", self._subject), *tokens], False


def _has_own_subject(tokens: Sequence[tuple[str, str]], first: bool) -> bool:
    """Whether a clause names what it speaks of: a name before the verb, or after "the height of".

    The first clause of a sentence does, unless it has no name or begins with a verb: "Founded by X".
    """
    kinds = [kind for kind, _ in tokens]
    if "name" not in kinds:
        return False
    before = [value for kind, value in tokens[: kinds.index("name")] if kind == "word"]
    leading = next((word for word in before if word not in _ARTICLES), "")
    articled = before[:1] in (["the"], ["a"], ["an"])
    if not articled and (leading in _VERBS or leading.endswith("ed") or leading == "by"):
        return False
    if first or not before or tokens[0][0] in ("number", "date") or kinds.count("name") > 1:
        return True
    attribute = any(word in ATTRIBUTES for word in before)
    if attribute:
        return before[-1] in ("of", "to", "for", "on", "at")
    return leading in _BEFORE_NAMES or leading in QUANTIFIERS


def _turned(tokens: Sequence[tuple[str, str]]) -> bool:
    """Whether the second name is the one that acts: passives, "the founder of X is Y", "X is younger than Y"."""
    names = [place for place, (kind, _) in enumerate(tokens) if kind == "name"]
    if len(names) < 2:
        return False
    words = [value if kind == "word" else "" for kind, value in tokens]
    first, second = names[0], names[1]
    turned = "by" in words[first:second]
    roles_before = any(word in ROLES for word in words[:first])
    possessed = "'s" in words[first : first + 2] and any(word in ROLES for word in words[first:second])
    turned ^= roles_before or possessed
    turned ^= words[first + 2 : first + 3] == ["the"] and any(word in POSSESSIONS for word in words[first:second])
    turned ^= any(word in INVERSE for word in words)
    return turned


def _relative(pronoun: str, part: list[tuple[str, str]], named: str) -> list[tuple[str, str]]:
    """ "which NAME designed" and "which cost 40" with what "which" stands for put in its place."""
    if pronoun == "whose":
        return [("name", named), ("word", "'s"), *part]
    return [*part, ("name", named)] if part[0][0] == "name" else [("name", named), *part]


def _without_expletive(tokens: list[tuple[str, str]], silent: bool) -> list[tuple[str, str]]:
    """Tokens without the "it" of "it is not stated when" and "it is true that"."""
    if tokens and tokens[0] == ("word", "it") and (silent or ("word", "that") in tokens):
        return tokens[1:]
    return tokens


def _complete(part: Sequence[tuple[str, str]]) -> bool:
    """Whether a stretch between commas says something, beyond a bare name or number or "in the inspection"."""
    if part[0][1] in ("in", "on", "at", "during", "for") and len(part) < 5 and not any(value in _VERBS for _, value in part):
        return False
    return any(
        (kind == "word" and value not in FUNCTION and value not in UNITS and value not in QUANTIFIERS and value not in HEDGES and value not in NEGATIONS)
        or (kind == "word" and value in ("is", "are", "was", "were") and len(part) > 2 and place < len(part) - 1)
        for place, (kind, value) in enumerate(part)
    )


def _instead(clause: Sequence[tuple[str, str]], value: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """``clause`` with its last value of the same kind replaced: "X supplies A and B" also says "X supplies B"."""
    kinds = [kind for kind, _ in value if kind in ("name", "number", "date")]
    for place in range(len(clause) - 1, -1, -1):
        if kinds and clause[place][0] == kinds[0]:
            return [*clause[:place], *value, *clause[place + 1 :]]
    return [*clause, *value]


def _take_source(tokens: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    """Tokens without "according to the NAME" or "the NAME says that", and that name."""
    values = [value if kind == "word" else kind for kind, value in tokens]
    for place, value in enumerate(values):
        if value == "name" and any(word in ("according",) for word in values[max(0, place - 3) : place]):
            return tokens[: max(0, place - 3)] + tokens[place + 1 :], tokens[place][1]
        if value == "name" and values[place + 1 : place + 2] in (["says"], ["states"], ["gives"], ["reports"], ["lists"], ["writes"]):
            return [*tokens[:place], *tokens[place + 2 :]], tokens[place][1]
    return tokens, ""


def _spelled(tokens: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Numbers in words as digits: "eighty-five", "two hundred and four"."""
    place = 0
    while place < len(tokens):
        total, current, end, last = 0, 0, place, place
        while end < len(tokens):
            word = tokens[end][1].casefold()
            if word in _NUMBER_WORDS:
                current += _NUMBER_WORDS[word]
            elif word == "one" and (end > place or (end + 1 < len(tokens) and tokens[end + 1][1].casefold() in ("hundred", "thousand"))):
                current += 1
            elif word == "hundred" and end > place:
                current *= 100
            elif word == "thousand" and end > place:
                total, current = total + current * 1000, 0
            elif word == "and" and end > place and tokens[end - 1][1].casefold() in ("hundred", "thousand") and end + 1 < len(tokens) and tokens[end + 1][1].casefold() in _NUMBER_WORDS:
                pass
            else:
                break
            end += 1
            last = end
        if last > place:
            yield "number", str(total + current)
            place = last
        else:
            yield tokens[place]
            place += 1


def _leading_capitals(words: Sequence[str]) -> int:
    """How many words at the beginning look like one name."""
    plain = (not word[0].isupper() or _known(_bare(word)) for word in words)
    return next((place for place, other in enumerate(plain) if other), len(words))


def _while_words(tokens: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for token in tokens:
        if token[0] != "word":
            return
        yield token


def _bare(word: str) -> str:
    folded = word.casefold()
    return folded.removesuffix("'s").removesuffix("'")


def _known(word: str) -> bool:
    return word in FUNCTION or word in NEGATIONS or word in HEDGES or word in QUANTIFIERS or word in UNITS or bool(groups_of(word)) or word in _BREAKS


def _capitalised(sentence: str) -> Iterator[str]:
    """Runs of capitalised words, without a leading word that is only the sentence's first."""
    for match in re.finditer(r"[A-Z][a-z]+(?: [A-Z][a-z]+)*", sentence):
        words = match.group().split()
        while words and _known(words[0].casefold()) or words and words[0].casefold() in (*_MONTHS, "correction"):
            words = words[1:]
        if words:
            yield " ".join(words)


def _records(line: str) -> Iterator[str]:
    """A sentence for each field of each record of a JSON line: "NAME: field value"."""
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
