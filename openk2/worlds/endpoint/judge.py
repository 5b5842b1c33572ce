"""A judging model for the soft items of a rubric, and how far to trust it (K2 §3.1, LLM-based judge).

Whatever a program can check is checked by ``worlds.judge`` and never asked here: no words in an episode can change it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic import BaseModel

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured
from openk2.schema import JSON, Message, Rubric, RubricItem, Sampling, Score
from openk2.stats import Estimate, wilson
from openk2.worlds.endpoint.quote import RULE, quoted
from openk2.worlds.judge import judge
from openk2.worlds.simulator import Called
from openk2.worlds.state import Rows

SAMPLING = Sampling(temperature=0.0, max_tokens=1024)
INSTRUCTIONS = f"""You judge whether a statement about an episode between a user, an assistant and its tools holds.
Read the episode, say in a sentence or two what speaks for and against the statement, then decide. What the assistant
claims is no evidence that it did so: tool calls and their results are. If the episode does not show that the statement
holds, it does not hold.

{RULE}"""


class Verdict(BaseModel):
    """The judge's reason, then its decision."""

    reason: str
    holds: bool


class EndpointJudge:
    """Decides ``judged`` items, whose spec holds a ``statement``. ``num_unparsable`` answers counted as "fails"."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.num_asked = 0
        self.num_unparsable = 0

    async def holds(self, statement: str, episode: Sequence[Message]) -> bool:
        """Whether the statement holds of the episode. An answer that cannot be read, after repairs, is a no."""
        shown = [message.to_json() for message in episode]
        asked = f"{quoted('episode', shown)}\n{quoted('statement', statement)}\nDoes the statement hold?"
        messages = [Message("system", INSTRUCTIONS), Message("user", asked)]
        verdict = (await structured(self._endpoint, messages, Form.of(Verdict), SAMPLING)).value
        self.num_asked += 1
        self.num_unparsable += verdict is None
        return verdict is not None and verdict.holds

    async def score(
        self,
        rubric: Rubric,
        before: Rows,
        after: Rows,
        log: Sequence[Called],
        episode: Sequence[Message],
        answers: Sequence[str] | None = None,
    ) -> Score:
        """The whole rubric: what a program checks by ``worlds.judge``, ``judged`` items by the model.

        ``answers`` are those of several turns; None where the last message is the only one. 1 exactly when every item holds. Where the programmatic part is worth 0, the whole is, and no model is asked.
        Raises ValueError for a judged item without a statement.
        """
        hard = Rubric(tuple(item for item in rubric.items if item.check != "judged"))
        soft = [item for item in rubric.items if item.check == "judged"]
        statements = [_statement(item) for item in soft]
        if answers is None:
            answers = [episode[-1].content if episode and episode[-1].role == "assistant" else ""]
        firm = judge(hard, before, after, log, answers)
        if firm.total == 0.0:
            return Score(0.0, firm.parts | {item.name: 0.0 for item in soft})
        held = await asyncio.gather(*(self.holds(statement, episode) for statement in statements))
        parts = firm.parts | {item.name: float(holds) for item, holds in zip(soft, held, strict=True)}
        if all(parts.values()):
            return Score(1.0, parts)
        hard_weight = sum(item.weight for item in hard.items)
        earned = firm.total * hard_weight + sum(item.weight * parts[item.name] for item in soft)
        return Score(min(earned / (hard_weight + sum(item.weight for item in soft)), 0.9), parts)


def _statement(item: RubricItem) -> str:
    statement = item.spec.get("statement")
    if not isinstance(statement, str) or not statement:
        raise ValueError(f"rubric item {item.name!r}: a judged item has a `statement` in its spec")
    return statement


@dataclass(frozen=True, slots=True)
class Labelled:
    """A statement about an episode whose truth a program knows, by the end state or the log of calls."""

    statement: str
    episode: tuple[Message, ...]
    holds: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often a judge agrees with the labels, with 95 % Wilson intervals.

    ``false_accept`` is the share of statements that do not hold and were accepted, ``false_reject`` of those that hold
    and were rejected; None where there was none to get wrong. Unparsable answers count as rejections.
    """

    agreement: Estimate
    false_accept: Estimate | None
    false_reject: Estimate | None
    num_unparsable: int

    def to_json(self) -> JSON:
        """Plain JSON."""
        return asdict(self)


async def calibration(judging: EndpointJudge, labelled: Sequence[Labelled]) -> Calibration:
    """Ask the judge what is known already. Raises ValueError when nothing is labelled."""
    before = judging.num_unparsable
    said = await asyncio.gather(*(judging.holds(case.statement, case.episode) for case in labelled))
    pairs = [(case.holds, holds) for case, holds in zip(labelled, said, strict=True)]
    return Calibration(
        agreement=wilson(sum(truth == holds for truth, holds in pairs), len(pairs)),
        false_accept=_share([holds for truth, holds in pairs if not truth]),
        false_reject=_share([not holds for truth, holds in pairs if truth]),
        num_unparsable=judging.num_unparsable - before,
    )


def _share(wrong: Sequence[bool]) -> Estimate | None:
    return wilson(sum(wrong), len(wrong)) if wrong else None
