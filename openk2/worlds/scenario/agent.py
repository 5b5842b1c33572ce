"""Agents: a role with an expertise and a manner, written as a system prompt over a set of tools (K2 §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random

from openk2.schema import JSON

ROLES = (
    "assistant", "coordinator", "clerk", "analyst", "dispatcher", "case handler", "help desk agent", "operator", "planner",
    "account manager", "back-office agent", "controller", "supervisor's deputy", "concierge", "records officer",
    "service agent", "auditor's aide", "shift lead", "administrator", "specialist",
)  # fmt: skip
EXPERTISE = (
    "data quality", "customer care", "compliance", "scheduling", "logistics", "billing", "onboarding", "reporting",
    "reconciliation", "escalations", "inventory", "archives", "quality assurance", "operations", "procurement",
    "risk", "renewals", "planning", "field work", "audits", "claims", "training",
)  # fmt: skip
MANNERS = {
    "brief": "Answer in one short sentence.",
    "warm": "Be friendly, and confirm what you did.",
    "formal": "Keep a formal tone and name every record by its key.",
    "plain": "Use plain words and no filler.",
    "careful": "Look a record up before you change it where a request leaves a doubt.",
    "thorough": "Report what you did and every value you were asked for.",
    "calm": "Stay calm; when a system fails, try again before you report it.",
    "exact": "Give numbers and keys exactly as the systems show them.",
}
OPENINGS = (
    "You are {article} {role} for {apps}, with experience in {expertise}.",
    "You work as {article} {role}: {apps} are your systems, {expertise} is your field.",
    "Act as {article} {role} who knows {expertise} and works with {apps}.",
    "As {article} {role} you look after {apps}; people come to you for {expertise}.",
)
RULE = "Use the tools for every fact and every change. What a system's rules forbid, do not try to get around: say so."


@dataclass(frozen=True, slots=True)
class Agent:
    """Who the model is told to be."""

    id: str
    role: str
    expertise: str
    manner: str
    apps: tuple[str, ...]
    prompt: str

    def to_json(self) -> JSON:
        """Plain JSON."""
        return asdict(self) | {"apps": list(self.apps)}


def make_agent(seed: int, number: int, apps: Sequence[str], rules: Sequence[str]) -> Agent:
    """Agent ``number`` of a seed, for these apps and under their rules: the same each time."""
    rng = Random(f"agent/{seed}/{number}")
    role, expertise, manner = rng.choice(ROLES), rng.choice(EXPERTISE), rng.choice(list(MANNERS))
    names = " and ".join([", ".join(apps[:-1]), apps[-1]] if len(apps) > 1 else apps)
    article = "an" if role[0] in "aeiou" else "a"
    opening = rng.choice(OPENINGS).format(article=article, role=role, expertise=expertise, apps=names)
    return Agent(
        f"agent-{number:05d}", role, expertise, manner, tuple(apps), " ".join((opening, MANNERS[manner], RULE, *rules))
    )
