"""How a claim differs from what the context says: the numbers that the trained judge weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from openk2.gym.faithfulness.lexicon import WHERE, groups_of
from openk2.gym.faithfulness.reading import Clause, Reader, read_context

FEATURES = (
    "names_missing", "numbers_missing", "unit_differs", "words_elsewhere", "words_untold", "words_unknown", "negation_differs",
    "quantifier_differs", "hedge_differs", "order_differs", "no_relation", "no_value", "source_differs", "question", "strange",
    "taken_back", "unnamed", "wrongly_silent",
)  # fmt: skip
"""All are 0 for a claim that repeats the context, and 1 where it has that fault."""
_MOST = 1.0  # of any feature: one fault is enough
_AT = {name: place for place, name in enumerate(FEATURES)}
# How far a statement of the context is from a claim, to choose the one to compare it with.
_DISTANCE = np.array([3, 3, 1, 1, 1.2, 1.2, 0.6, 0.6, 0.5, 1, 1, 1, 0.5, 0, 0, 0, 0, 0])

Vector = npt.NDArray[np.float64]


class Evidence:
    """A context, read once for all claims about it."""

    def __init__(self, context: str) -> None:
        self.clauses, self.names = read_context(context)
        self._words = frozenset[str]().union(*(clause.words for clause in self.clauses))

    def reader(self) -> Reader:
        """A reader of claims that knows the context's names."""
        return Reader(self.names)

    def features(self, claims: Sequence[Clause]) -> Vector:
        """A sentence's features: for each the worst among its clauses. All 0 for one without a claim."""
        if not claims:
            return np.zeros(len(FEATURES))
        return np.minimum(np.max([self._of_clause(claim) for claim in claims], axis=0), _MOST)

    def _of_clause(self, claim: Clause) -> Vector:
        if claim.silent:
            return self._of_silence(claim)
        rows = [self._against(claim, stated) for stated in self._near(claim)]
        row = rows[int(np.argmin(np.array(rows) @ _DISTANCE))]
        row[_AT["taken_back"]] = not row[_AT["negation_differs"]] and self._taken_back(claim)
        return np.array(row)

    def _near(self, claim: Clause) -> Sequence[Clause]:
        """The statements that share most names with a claim: the last first; one that says nothing where there are none."""
        shared = [len(set(claim.names) & set(stated.names)) for stated in self.clauses]
        most = max(shared, default=0)
        return [stated for stated, count in zip(self.clauses[::-1], shared[::-1], strict=True) if count == most] or [
            Clause()
        ]

    def _against(self, claim: Clause, stated: Clause) -> list[float]:
        row = [0.0] * len(FEATURES)
        row[_AT["names_missing"]] = sum(name not in stated.names for name in claim.names)
        units = dict(stated.numbers)
        row[_AT["numbers_missing"]] = sum(value not in units for value, _ in claim.numbers)
        row[_AT["unit_differs"]] = sum(
            value in units and unit not in ("", units[value]) for value, unit in claim.numbers
        )
        about = {word for name in stated.names for word in name.casefold().split()}
        about_groups = stated.groups
        for word in claim.words - stated.words - about:
            if not (groups_of(word) & about_groups or {f"{word}s", word.removesuffix("s")} & stated.words):
                row[_AT[self._unmatched(word)]] += 1
        row[_AT["negation_differs"]] = claim.negations != stated.negations
        row[_AT["quantifier_differs"]] = len(claim.quantifiers ^ stated.quantifiers)
        row[_AT["hedge_differs"]] = len(claim.hedges - stated.hedges) + bool(stated.hedges - claim.hedges)
        row[_AT["order_differs"]] = _order_differs(claim, stated)
        row[_AT["no_relation"]] = not (claim.words & (stated.words | about) or claim.groups & about_groups)
        row[_AT["no_value"]] = _has_value(stated) and not _has_value(claim)
        row[_AT["source_differs"]] = claim.source != stated.source
        row[_AT["question"]] = claim.question
        row[_AT["strange"]] = claim.strange
        row[_AT["unnamed"]] = claim.dangling or not claim.names
        return row

    def _of_silence(self, claim: Clause) -> Vector:
        """Of "the context does not say when X was founded": wrong where it does say so, or where it says more than that."""
        row = np.zeros(len(FEATURES))
        told = [
            stated for stated in self.clauses if set(claim.names) & set(stated.names) and _can_answer(stated, claim)
        ]
        topic = topic_of(claim)
        row[_AT["names_missing"]] = sum(name not in self.names.all for name in claim.names)
        row[_AT["wrongly_silent"]] = not claim.words or any(topic & stated.groups for stated in told)
        row[_AT["words_unknown"]] = sum(not groups_of(word) and word not in self._words for word in claim.words)
        row[_AT["negation_differs"]] = claim.negations % 2
        row[_AT["hedge_differs"]] = len(claim.hedges)
        row[_AT["question"]] = claim.question
        row[_AT["strange"]] = claim.strange + len(claim.numbers)
        row[_AT["unnamed"]] = claim.dangling or not claim.names
        return row

    def _unmatched(self, word: str) -> str:
        if word in self._words:
            return "words_elsewhere"
        return "words_untold" if groups_of(word) else "words_unknown"

    def _taken_back(self, claim: Clause) -> bool:
        """Whether the last statement of a claim's names and numbers says the opposite of it."""
        about = [
            stated.negations % 2
            for stated in self.clauses
            if set(claim.names) <= set(stated.names)
            and claim.values <= stated.values
            and (claim.words & stated.words or claim.groups & stated.groups)
        ]
        return bool(about) and about[-1] != claim.negations % 2


@lru_cache(maxsize=256)
def evidence(context: str) -> Evidence:
    """The context, read once: many replies are about the same."""
    return Evidence(context)


def topic_of(clause: Clause) -> frozenset[str]:
    """The groups that most of a clause's words share."""
    counts = Counter(group for word in clause.words for group in groups_of(word))
    topic = frozenset(group for group, count in counts.items() if count == max(counts.values()))
    return (topic & WHERE or topic) if clause.asks == "where" else topic


def _can_answer(stated: Clause, claim: Clause) -> bool:
    """Whether a statement can be what a question word asks for."""
    asks = claim.asks
    if asks in ("when", "how") or "day" in claim.words:
        return bool(stated.numbers) or bool(stated.quantifiers)
    return len(stated.names) > 1 if asks in ("who", "whom", "where") else True


def _has_value(clause: Clause) -> bool:
    """Whether a clause says how much, when, who or where."""
    return bool(clause.numbers or clause.quantifiers or len(clause.names) > 1)


def _order_differs(claim: Clause, stated: Clause) -> bool:
    """Whether the two names that claim and statement share do to each other what they do not do there."""
    shared = [name for name in claim.names if name in stated.names][:2]
    if len(shared) < 2:
        return False
    swapped = stated.names.index(shared[0]) > stated.names.index(shared[1])
    return swapped ^ claim.turned ^ stated.turned
