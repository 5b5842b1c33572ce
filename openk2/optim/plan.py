"""Who updates what: every parameter of a model sorted to Muon or AdamW, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

from torch import nn

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


def plan(model: nn.Module, split: Split) -> list[PlanRow]:
    """Sort the parameters of a model, in its order, by the role that each has ``published`` (see ``Layout``).

    Parameters without one go by where they stand: embeddings and what has fewer than two dimensions to AdamW,
    as the output head (tied, given by ``get_output_embeddings()`` or called ``lm_head``); weights of
    ``nn.Linear`` to Muon. Raises ValueError, naming the parameter, where no rule fits.
    """
    owners = {name: module for path, module in model.named_modules() for name in _own_names(path, module)}
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    heads = _output_heads(model)
    rows = []
    for name, parameter in model.named_parameters():
        layout: Layout | None = getattr(parameter, "published", None)
        if not parameter.requires_grad:
            rows.append(PlanRow(name, tuple(parameter.shape), "frozen", (), "takes no gradient"))
        elif layout is not None:
            rows.append(_row(name, parameter, layout, f"role {layout.role}", split))
        elif parameter.ndim < 2:
            rows.append(PlanRow(name, tuple(parameter.shape), "adamw", (), "fewer than two dimensions"))
        elif parameter in embeddings:
            rows.append(PlanRow(name, tuple(parameter.shape), "adamw", (), "weight of nn.Embedding"))
        elif parameter in heads:
            rows.append(PlanRow(name, tuple(parameter.shape), "adamw", (), "the output head"))
        elif isinstance(owners[name], nn.Linear):
            rows.append(_row(name, parameter, PLAIN_MATRIX, "weight of nn.Linear", split))
        else:
            raise ValueError(
                f"parameter {name} {list(parameter.shape)} of {type(owners[name]).__name__} fits no rule: "
                "give it an attribute published with role, heads and pieces"
            )
    return rows


def _row(name: str, parameter: nn.Parameter, layout: Layout, why: str, split: Split) -> PlanRow:
    shape = tuple(parameter.shape)
    if layout.role in ADAMW_ROLES:
        return PlanRow(name, shape, "adamw", (), why, layout.role)
    if layout.role not in MUON_ROLES:
        raise ValueError(
            f"parameter {name}: unknown role {layout.role!r}; known: {', '.join(MUON_ROLES + ADAMW_ROLES)}"
        )
    if len(shape) < 2:
        raise ValueError(f"parameter {name}: role {layout.role} wants [..., out, in], its shape is {list(shape)}")
    try:
        return PlanRow(name, shape, "muon", blocks(layout, shape[-2], split), why, layout.role)
    except ValueError as error:
        raise ValueError(f"parameter {name}: {error}") from error


def _own_names(path: str, module: nn.Module) -> list[str]:
    return [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]


def _output_heads(model: nn.Module) -> set[nn.Parameter]:
    """Weights of the modules called lm_head, and of the head that a transformers model names."""
    modules = [module for path, module in model.named_modules() if path.split(".")[-1] == "lm_head"]
    get = getattr(model, "get_output_embeddings", None)
    named = get() if get is not None else None
    return {parameter for module in [*modules, *([named] if named else [])] for parameter in module.parameters()}
