"""Who writes instructions with their verifiers: a script, or any model behind an endpoint, one trained for it too (K2 §3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured
from openk2.schema import Message, Sampling
from openk2.worlds.endpoint.quote import RULE, quoted

Said = TypeVar("Said", bound=BaseModel)
_GREEDY = Sampling(temperature=0.0, max_tokens=1024)
_WRITE = f"""You invent instructions on the form of a text reply that a short Python program can verify, whatever the reply is
about. Write one instruction of the given sort. Write three different programs that verify it; each defines
check(reply: str) -> bool, uses the standard library alone, and neither reads files nor prints. Write at least six test replies, some
of which keep to the instruction and some of which do not, and say of each whether it does.

{RULE}"""
_DESCRIBE = f"""You read a Python program that verifies a text reply. Say in one sentence, as an instruction to whoever writes the reply, what it
demands. Go by what the program does, not by names or comments.

{RULE}"""
_COMPARE = f"""You compare two instructions. They agree when every reply that keeps to the one keeps to the other, and neither demands
something that the other does not.

{RULE}"""


@dataclass(frozen=True, slots=True)
class Case:
    """A test reply, and whether it keeps to the instruction."""

    reply: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Written:
    """An instruction, programs that verify it (each defines ``check(reply) -> bool``), and test replies."""

    instruction: str
    programs: tuple[str, ...]
    cases: tuple[Case, ...]


class InstructionWriter(Protocol):
    """Writes instructions and reads them back from their programs."""

    async def write(self, topic: str, seed: int) -> Written | None:
        """An instruction of a sort; None when what was written cannot be read. Equal seeds write the same."""
        ...

    async def describe(self, program: str) -> str | None:
        """The instruction that a program verifies, from its code alone; None when the answer cannot be read."""
        ...

    async def agree(self, instruction: str, described: str) -> bool:
        """Whether two instructions demand the same."""
        ...


class ScriptedWriter:
    """Writes what it was given, by topic; ``described`` says what each program demands."""

    def __init__(self, written: Mapping[str, Sequence[Written]], described: Mapping[str, str]) -> None:
        self._written, self._described = written, described

    async def write(self, topic: str, seed: int) -> Written | None:
        """One of the topic, by turns."""
        found = self._written.get(topic, ())
        return found[seed % len(found)] if found else None

    async def describe(self, program: str) -> str | None:
        """As it was given."""
        return self._described.get(program)

    async def agree(self, instruction: str, described: str) -> bool:
        """When they are the same words."""
        return instruction.casefold().split() == described.casefold().split()


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reply: str
    holds: bool


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instruction: str = Field(min_length=1)
    programs: list[str] = Field(min_length=1)
    cases: list[_Case] = Field(min_length=1)


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instruction: str = Field(min_length=1)


class _Compared(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str
    agree: bool


class EndpointWriter:
    """A model behind an endpoint. ``num_unparsable`` counts answers that stayed unreadable after repairs."""

    def __init__(self, endpoint: Endpoint, sampling: Sampling | None = None) -> None:
        """``sampling`` is how it writes; reading back is greedy."""
        self._endpoint = endpoint
        self._sampling = sampling or Sampling(temperature=1.0, max_tokens=4096)
        self.num_unparsable = 0

    async def write(self, topic: str, seed: int) -> Written | None:
        """Ask for an instruction with programs and test replies. Raises what ``Endpoint.complete`` raises."""
        said = await self._ask(_WRITE, quoted("sort", topic), Form.of(_Written), replace(self._sampling, seed=seed))
        if said is None:
            return None
        cases = tuple(Case(case.reply, case.holds) for case in said.cases)
        return Written(said.instruction, tuple(said.programs), cases)

    async def describe(self, program: str) -> str | None:
        """Ask what a program demands. Raises what ``Endpoint.complete`` raises."""
        said = await self._ask(_DESCRIBE, quoted("program", program), Form.of(_Described), _GREEDY)
        return None if said is None else said.instruction

    async def agree(self, instruction: str, described: str) -> bool:
        """Ask whether they agree; an unreadable answer is a no. Raises what ``Endpoint.complete`` raises."""
        shown = f"{quoted('first', instruction)}\n{quoted('second', described)}"
        said = await self._ask(_COMPARE, shown, Form.of(_Compared), _GREEDY)
        return said is not None and said.agree

    async def _ask(self, system: str, user: str, form: Form[Said], sampling: Sampling) -> Said | None:
        messages = [Message("system", system), Message("user", user)]
        value = (await structured(self._endpoint, messages, form, sampling)).value
        self.num_unparsable += value is None
        return value
