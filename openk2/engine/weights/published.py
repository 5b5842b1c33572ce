"""Parts of a model whose parameters publish what is fused in them: the one place here that knows of models."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from openk2.engine.weights.parts import Index, Part
from openk2.model.layout import Layout


def model_parts(model: nn.Module, *, experts: slice | None = None, num_experts: int = 0) -> list[Part]:
    """Every parameter and buffer of a model, or of a pipeline stage, under its own name.

    Args:
        model: names count, so a stage keeps the whole model's.
        experts: which experts the model's stacks hold, where expert parallelism divides them.
        num_experts: how many there are in all.
    """
    parts = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        layout: Layout | None = getattr(tensor, "published", None)
        if experts is not None and layout is not None and layout.role == "experts":
            parts.append(Part(name, tensor, (num_experts, *tensor.shape[1:]), (experts,)))
        else:
            parts.append(Part(name, tensor, tuple(tensor.shape)))
    return parts


def pieces(parameter: Tensor) -> Iterator[tuple[str, int | None, Index]]:
    """What is fused in a parameter, for replicas that keep it apart: piece, expert (None outside stacks), index.

    A gate|up stack gives ``("gate", e, (e, slice(0, F)))`` and ``("up", e, (e, slice(F, 2 * F)))`` for each expert;
    an expert stack with one piece ``("", e, (e,))``; a matrix with several heads its pieces head by head.
    """
    layout: Layout | None = getattr(parameter, "published", None)
    in_stack = layout is not None and layout.role == "experts"
    for expert in range(parameter.shape[0]) if in_stack else (None,):
        first: Index = () if expert is None else (expert,)
        for piece, rows in _rows(layout):
            yield piece, expert, (*first, *rows)


def _rows(layout: Layout | None) -> Iterator[tuple[str, Index]]:
    if layout is None or not layout.pieces:
        yield "", ()
        return
    row = 0
    for _ in range(layout.heads):
        for piece, rows in layout.pieces:
            yield piece, (slice(row, row + rows),)
            row += rows
