"""Instructions that a model invents with their verifiers, and what has to hold before one is believed (after AutoIF, Dong et al. 2024).

The programs run in the sandbox alone. A writer's programs and test replies judge each other: a reply whose label three programs
or more contradict with one voice is left out, but few may be; a program is kept when it agrees with enough of the others. Then it is
described from its code alone, and the description has to agree with the instruction.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openk2.gym.instructions.bases import BASES
from openk2.gym.instructions.program import BrokenProgramError, verdicts
from openk2.gym.instructions.writer import Case, InstructionWriter, Written
from openk2.gym.single_turn import split_of
from openk2.sandbox.once import Runner
from openk2.schema import Task

SHARE = 0.8  # of the kept replies a program has to agree with
FEWEST_CASES = 4
SEVERAL = 3  # different programs that outweigh a label


@dataclass(frozen=True, slots=True)
class Kept:
    """An instruction with the program that verifies it, the replies it was tried on, and the share of them it agrees with."""

    instruction: str
    program: str
    cases: tuple[Case, ...]
    agreement: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """An instruction that was not believed. Reasons: "unreadable", "few replies", "broken", "replies disputed", "constant",
    "disagrees", "unstable", "means something else".
    """

    instruction: str
    reason: str
    detail: str = ""


async def invent(
    writer: InstructionWriter, topics: Sequence[str], *, each: int = 1, share: float = SHARE, pool: Runner | None = None
) -> tuple[list[Kept], list[Rejected]]:
    """Have ``each`` instructions written for every topic; what is believed, and what is not with its reason."""
    kept: list[Kept] = []
    rejected: list[Rejected] = []
    for topic in topics:
        for seed in range(each):
            written = await writer.write(topic, seed)
            found = Rejected(topic, "unreadable") if written is None else await examine(written, writer, share, pool)
            if isinstance(found, Kept):
                kept.append(found)
            else:
                rejected.append(found)
    return kept, rejected


async def examine(
    written: Written, writer: InstructionWriter, share: float = SHARE, pool: Runner | None = None
) -> Kept | Rejected:
    """Whether an instruction is believed, and with which of its programs."""
    name = written.instruction
    if not _both_sides(written.cases):
        return Rejected(name, "few replies", f"{len(written.cases)}, not {FEWEST_CASES} with both answers among them")
    working, why = await _run_all(written, pool)
    if not working:
        return Rejected(name, "broken", why)
    cases = [place for place in range(len(written.cases)) if not _is_mislabelled(place, written, working)]
    if len(cases) < share * len(written.cases) or not _both_sides([written.cases[place] for place in cases]):
        return Rejected(name, "replies disputed", f"{len(cases)} of {len(written.cases)} are left")
    agreements = {
        program: sum(said[place] == written.cases[place].holds for place in cases) / len(cases)
        for program, said in working.items()
        if len({said[place] for place in cases}) == 2
    }
    if not agreements:
        return Rejected(name, "constant", "every program says the same of all replies")
    program = max(agreements, key=agreements.__getitem__)
    if agreements[program] < share:
        return Rejected(name, "disagrees", f"{agreements[program]:.2f} of the replies, not {share:.2f}")
    if not await _is_stable(program, written, working[program], pool):
        return Rejected(name, "unstable", "the same replies in another order got other verdicts")
    described = await writer.describe(program)
    if described is None or not await writer.agree(name, described):
        return Rejected(name, "means something else", described or "no description")
    return Kept(name, program, tuple(written.cases[place] for place in cases), agreements[program])


def _both_sides(cases: Sequence[Case]) -> bool:
    return len(cases) >= FEWEST_CASES and len({case.holds for case in cases}) == 2


def _is_mislabelled(place: int, written: Written, working: Mapping[str, Sequence[bool]]) -> bool:
    """Whether all of several programs contradict a reply's label."""
    label = written.cases[place].holds
    return len(working) >= SEVERAL and all(said[place] != label for said in working.values())


async def _run_all(written: Written, pool: Runner | None) -> tuple[dict[str, list[bool]], str]:
    """The verdicts of each program that works, and what was wrong with the last of the others."""
    working: dict[str, list[bool]] = {}
    why = "there is no program"
    for program in written.programs:
        try:
            working[program] = await verdicts(program, [case.reply for case in written.cases], pool)
        except BrokenProgramError as error:
            why = str(error)
    return working, why


async def _is_stable(program: str, written: Written, said: list[bool], pool: Runner | None) -> bool:
    """Whether the replies backwards get the same verdicts."""
    try:
        return (await verdicts(program, [case.reply for case in reversed(written.cases)], pool))[::-1] == said
    except BrokenProgramError:
        return False


def program_tasks(kept: Sequence[Kept], *, each: int = 1, seed: int = 0) -> tuple[Task, ...]:
    """Tasks with facts to state under invented instructions, for ``InstructionsEnv``. None of them has a right reply on file.

    The split goes with the facts. Whether facts and instruction go together nobody has proved.
    """
    tasks = []
    for found in kept:
        for number in range(each):
            rng = random.Random(f"{seed} {found.instruction} {number}")
            kind = rng.choice(sorted(BASES))
            base = BASES[kind](rng, rng.randint(2, 4))
            question = f"{base.request}\n\n- {found.instruction}"
            payload = {"question": question, "content": base.content, "constraints": [], "programs": [found.program]}
            name = hashlib.blake2b(question.encode(), digest_size=8).hexdigest()
            tasks.append(
                Task(
                    f"instructions-program-{name}", "instructions", kind, split_of(base.key), payload, tags=("program",)
                )
            )
    return tuple(tasks)
