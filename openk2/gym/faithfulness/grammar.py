"""What a stretch of tokens does in a sentence: whom it speaks of, who acts on whom, what belongs together."""

# ruff: noqa: SIM905
from __future__ import annotations

from collections.abc import Iterator, Sequence

from openk2.gym.faithfulness.lexicon import (
    ATTRIBUTES,
    BREAKS,
    FUNCTION,
    HEDGES,
    INVERSE,
    NEGATIONS,
    POSSESSIONS,
    QUANTIFIERS,
    ROLES,
    SAYING,
    UNITS,
)
from openk2.gym.faithfulness.tokens import Token

ASKING = ("when", "where", "who", "whom", "which", "how", "what", "whose")
_RELATIVE = ("which", "who", "whose")
_ARTICLES = ("a", "an", "the", "also", "then", "is", "are", "was", "were", "has")
_BEFORE_NAMES = ("", "according", "in", "on", "at", "to", "for", "of", "from")
_VALUE_PREPOSITIONS = ("in", "on", "by", "at")
_VERBS = frozenset(
    "is are was were be been being have has had do does did cost draws drew drawn built set born left ran runs put took made".split()
)


def is_silent(tokens: Sequence[Token]) -> bool:
    """Whether they say that the context does not tell."""
    return bool(SAYING.search(" ".join(value for _, value in tokens)))


def parts(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each claim of a sentence: fragments joined to what they belong to, coordination written out.

    "X, built in 1931, supplies A and B" is "X built in 1931", "supplies A", "supplies B".
    """
    found: list[list[Token]] = []
    pending: list[list[Token]] = []
    named = ""
    for join, part in _between_breaks(tokens):
        if join in _RELATIVE and named:
            part = _relative(join, part, named)
        named = next((value for kind, value in reversed(part) if kind == "name"), named)
        if _complete(part):
            if join == "and" and pending and all(map(_bare_name, pending)) and part[0][0] == "name":
                found += [[each[0], *part[1:]] for each in pending] + [part]
            else:
                found.append([token for each in pending for token in each] + part)
            pending = []
        elif found and join != ":":
            unsure: list[Token] = [("strange", "but")] if join == "but" else []  # "no pact but this one"
            found.append([*_instead(found[-1], part), *unsure])
        else:
            pending.append(part)
    if pending:
        found.append([token for each in pending for token in each])
    if len(found) > 1 and found[1][0][0] == "name" and not has_own_subject(found[0], True):
        found[0] = [found[1][0], *found[0]]  # "Founded in 1931, X employs 80 people"
    return [claim for part in found for claim in _one_value_each(part)]


def has_own_subject(tokens: Sequence[Token], first: bool) -> bool:
    """Whether a part names what it speaks of: a name before the verb, or after "the height of".

    The first part of a sentence does, unless it has no name or begins with a verb: "Founded by X".
    """
    kinds = [kind for kind, _ in tokens]
    if "name" not in kinds:
        return False
    before = [value for kind, value in tokens[: kinds.index("name")] if kind == "word"]
    leading = next((word for word in before if word not in _ARTICLES), "")
    articled = before[:1] in (["the"], ["a"], ["an"])
    if before[:1] and before[0] in ("is", "are", "was", "were", "has"):
        return False
    if not articled and (leading in _VERBS or leading.endswith("ed") or leading == "by"):
        return False
    if first or not before or tokens[0][0] in ("number", "date") or kinds.count("name") > 1:
        return True
    if any(word in ATTRIBUTES for word in before):
        return before[-1] in ("of", "to", "for", "on", "at")
    return leading in _BEFORE_NAMES or leading in QUANTIFIERS


def turned(tokens: Sequence[Token]) -> bool:
    """Whether the second name is the one that acts: passives, "the founder of X is Y", "X is younger than Y"."""
    names = [place for place, (kind, _) in enumerate(tokens) if kind == "name"]
    if len(names) < 2:
        return False
    words = [value if kind == "word" else "" for kind, value in tokens]
    first, second = names[0], names[1]
    before, between = words[:first], words[first:second]
    inverse = any(word in INVERSE for word in words)
    turns = (
        "by" in between or ("from" in between and not inverse),
        any(word in ROLES for word in before) or ("'s" in between[:2] and any(word in ROLES for word in between)),
        words[first + 2 : first + 3] == ["the"] and any(word in POSSESSIONS for word in between),
        inverse,
        before[-1:] in (["to"], ["from"]),
    )
    return sum(turns) % 2 == 1


def take_source(tokens: list[Token]) -> tuple[list[Token], str]:
    """Tokens without "according to the NAME" or "the NAME says that", and that name."""
    values = [value if kind == "word" else kind for kind, value in tokens]
    for place, value in enumerate(values):
        if value != "name":
            continue
        start = max(0, place - 3)
        if "according" in values[start:place]:
            return tokens[:start] + tokens[place + 1 :], tokens[place][1]
        if values[place + 1 : place + 2] in (["says"], ["states"], ["gives"], ["reports"], ["lists"], ["writes"]):
            return tokens[:place] + tokens[place + 2 :], tokens[place][1]
    return tokens, ""


def without_lead(tokens: list[Token]) -> list[Token]:
    """Tokens without a leading "no," or "yes,", or the "both" of "both X and Y"."""
    if tokens[:1] in ([("word", "no")], [("word", "yes")]) and tokens[1:2] and tokens[1][0] == "break":
        return tokens[2:]
    if tokens[:1] == [("word", "both")] and tokens[1:2] and tokens[1][0] == "name" and ("word", "and") in tokens[2:3]:
        return tokens[1:]
    return tokens


def without_expletive(tokens: list[Token]) -> list[Token]:
    """Tokens without the "it" of "it is not stated when" and "it is true that"."""
    if tokens[:1] == [("word", "it")] and (is_silent(tokens) or ("word", "that") in tokens):
        return tokens[1:]
    return tokens


def _between_breaks(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """What stands between commas and conjunctions, each with the break before it."""
    silent = is_silent(tokens)
    join, part = "", list[Token]()
    for kind, value in tokens:
        asks = silent and value in ASKING
        if kind == "break" or (kind == "word" and value in BREAKS and not asks):
            if part:
                yield join, part
            join, part = value, []
        else:
            part.append((kind, value))
    if part:
        yield join, part


def _relative(pronoun: str, part: list[Token], named: str) -> list[Token]:
    """The part of "which NAME designed" or "which cost 40" with what "which" stands for put in its place."""
    if pronoun == "whose":
        return [("name", named), ("word", "'s"), *part]
    return [*part, ("name", named)] if part[0][0] == "name" else [("name", named), *part]


def _bare_name(part: Sequence[Token]) -> bool:
    return len(part) == 1 and part[0][0] == "name"


def _complete(part: Sequence[Token]) -> bool:
    """Whether a part says something, beyond a bare name or number or "in the inspection"."""
    if (
        part[0][1] in ("in", "on", "at", "during", "for")
        and len(part) < 5
        and not any(value in _VERBS for _, value in part)
    ):
        return False
    says_nothing = (FUNCTION, UNITS, QUANTIFIERS, HEDGES, NEGATIONS)
    words = [value for kind, value in part if kind == "word"]
    copula = any(value in ("is", "are", "was", "were") for _, value in part[:-1]) and len(part) > 2
    return copula or any(all(word not in group for group in says_nothing) for word in words)


def _instead(clause: Sequence[Token], value: list[Token]) -> list[Token]:
    """``clause`` with its last value of the same kind replaced: "X supplies A and B" also says "X supplies B"."""
    kinds = [kind for kind, _ in value if kind in ("name", "number", "date")]
    for place in range(len(clause) - 1, -1, -1):
        if kinds and clause[place][0] == kinds[0]:
            return [*clause[:place], *value, *clause[place + 1 :]]
    return [*clause, *value]


def _one_value_each(part: list[Token]) -> list[list[Token]]:
    """The two claims of "X was founded in 1931 by Y": "X was founded in 1931" and "X was founded by Y"."""
    phrases = [
        (place, place + 2)
        for place, (kind, value) in enumerate(part[:-1])
        if place
        and kind == "word"
        and value in _VALUE_PREPOSITIONS
        and part[place + 1][0] in ("name", "number", "date")
    ]
    if len(phrases) < 2 or "name" not in [kind for kind, _ in part[: phrases[0][0]]]:
        return [part]
    dropped = [set(range(*phrase)) for phrase in phrases]
    return [
        [token for place, token in enumerate(part) if not any(place in drop for drop in dropped if drop is not kept)]
        for kept in dropped
    ]
