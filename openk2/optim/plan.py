"""Who updates what: every parameter of a model sorted to Muon or AdamW, with the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Literal

from torch import Tensor, nn

from openk2.optim.blocks import Block, Layout, blocks
from openk2.optim.config import Split

Algorithm = Literal["muon", "adamw", "frozen"]

MUON_ROLES = ("matrix", "experts")
ADAMW_ROLES = ("embedding", "head", "norm", "router", "bias")
PLAIN_MATRIX = SimpleNamespace(role="matrix", heads=1, pieces=())


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One parameter: what updates it, in which pieces, and why. ``frozen`` ones are not updated."""

    name: str
    shape: tuple[int, ...]
    algorithm: Algorithm
    pieces: tuple[Block, ...]
    why: str
    role: str = ""

    @property
    def matrices(self) -> str:
        """What Newton-Schulz gets, in words: how many matrices of which shape."""
        found = []
        for block in self.pieces:
            rows = block.stop - block.start
            count = math.prod(self.shape[:-2]) * (block.heads if block.apart else 1)
            shape = f"{rows if block.apart else block.heads * rows}×{self.shape[-1]}"
            found.append((f"{block.name} " if block.name else "") + (f"{count}·" if count > 1 else "") + shape)
        return ", ".join(found)


class Plan(tuple[PlanRow, ...]):
    """One row for each parameter; printed, a table."""

    __slots__ = ()

    def __str__(self) -> str:
        cells = [(row.name, "×".join(map(str, row.shape)), row.algorithm, row.matrices, row.why) for row in self]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
        return "\n".join(lines)


def plan(model: nn.Module, split: Split, roles: Mapping[str, str | Layout] | None = None) -> Plan:
    """Sort the parameters of a model, in its order, by the role that each has ``published`` (see ``Layout``).

    ``roles`` comes first: patterns of names (``*`` and ``?``) with a role or a layout; the first that fits counts.
    Parameters without either go by where they stand: embeddings and what has fewer than two dimensions to AdamW,
    as the output head (tied, given by ``get_output_embeddings()`` or called ``lm_head``); weights of ``nn.Linear``
    to Muon. Raises ValueError, naming the parameter, where no rule fits, and naming a pattern that fits nothing.
    """
    owners = {name: module for path, module in model.named_modules() for name in _own_names(path, module)}
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    heads = _output_heads(model)
    patterns = {pattern: _layout(role) for pattern, role in (roles or {}).items()}
    unused = set(patterns)
    rows = []
    for name, parameter in model.named_parameters():
        layout: Layout | None = getattr(parameter, "published", None)
        told = next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
        if told is not None:
            unused.discard(told)
            layout = patterns[told]
        if not parameter.requires_grad:
            rows.append(PlanRow(name, tuple(parameter.shape), "frozen", (), "takes no gradient"))
        elif layout is not None:
            rows.append(row_of(name, parameter, layout, f"role {layout.role}", split))
        elif parameter.ndim < 2:
            rows.append(PlanRow(name, tuple(parameter.shape), "adamw", (), "fewer than two dimensions"))
        elif parameter in embeddings:
            rows.append(PlanRow(name, tuple(parameter.shape), "adamw", (), "weight of nn.Embedding"))
        elif parameter in heads:
            rows.append(PlanRow(name, tuple(parameter.shape), "adamw", (), "the output head"))
        elif isinstance(owners[name], nn.Linear):
            rows.append(row_of(name, parameter, PLAIN_MATRIX, "weight of nn.Linear", split))
        else:
            raise ValueError(
                f"parameter {name} {list(parameter.shape)} of {type(owners[name]).__name__} fits no rule: "
                "name it in roles, or give it an attribute published with role, heads and pieces"
            )
    if unused:
        raise ValueError(f"roles: no parameter is called {' or '.join(sorted(unused))}")
    return Plan(rows)


def published_layouts(model: nn.Module) -> dict[str, Layout]:
    """What the parameters of a model publish, by name, to give to ``plan`` as ``roles``.

    Taken before ``fully_shard``, which makes new parameters without it.
    """
    named = ((name, getattr(parameter, "published", None)) for name, parameter in model.named_parameters())
    return {name: layout for name, layout in named if layout is not None}


def row_of(name: str, parameter: Tensor, layout: Layout, why: str, split: Split) -> PlanRow:
    """The row of a parameter with a known layout. Raises ValueError, naming it, where shape and layout disagree."""
    shape = tuple(parameter.shape)
    if layout.role in ADAMW_ROLES:
        return PlanRow(name, shape, "adamw", (), why, layout.role)
    if layout.role not in MUON_ROLES:
        raise ValueError(
            f"parameter {name}: unknown role {layout.role!r}; known: {', '.join(MUON_ROLES + ADAMW_ROLES)}"
        )
    if len(shape) < 2:
        raise ValueError(
            f"parameter {name}: role {layout.role} wants [..., out, in], its shape is {list(shape)}; Muon updates matrices"
        )
    if len(shape) > 3 and layout.role == "matrix":
        raise ValueError(
            f"parameter {name}: role matrix wants [out, in] or [stack, out, in], its shape is {list(shape)}; give a "
            "convolution to AdamW, publish the role experts for stacks of stacks"
        )
    try:
        return PlanRow(name, shape, "muon", blocks(layout, shape[-2], split), why, layout.role)
    except ValueError as error:
        raise ValueError(f"parameter {name}: {error}") from error


def _layout(role: str | Layout) -> Layout:
    return SimpleNamespace(role=role, heads=1, pieces=()) if isinstance(role, str) else role


def _own_names(path: str, module: nn.Module) -> list[str]:
    return [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]


def _output_heads(model: nn.Module) -> set[nn.Parameter]:
    """Weights of the modules called lm_head, and of the head that a transformers model names."""
    modules = [module for path, module in model.named_modules() if path.split(".")[-1] == "lm_head"]
    get = getattr(model, "get_output_embeddings", None)
    named = get() if get is not None else None
    return {parameter for module in [*modules, *([named] if named else [])] for parameter in module.parameters()}
