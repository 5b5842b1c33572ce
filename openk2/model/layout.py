"""What a parameter publishes about itself: its role and the pieces fused in it.

Optimizers, checkpoint converters and parallel layouts read ``parameter.published``; nothing else in a
parameter's name or place has to be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

P = TypeVar("P", bound=Tensor)

Role = Literal["matrix", "experts", "embedding", "head", "norm", "router", "bias"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Role of a parameter and the row blocks of its output dimension.

    ``pieces`` are (name, rows per head), in storage order inside a head; heads follow one another.
    A gate|up stack ``[E, 2F, D]`` has one head and two pieces of F rows; a kv_b matrix
    ``[H·(nope+v), C]`` has H heads, each with nope rows of keys and v rows of values.
    """

    role: Role
    heads: int = 1
    pieces: tuple[tuple[str, int], ...] = ()


def publish(parameter: P, layout: Layout) -> P:
    """Attach ``layout`` to ``parameter``. Raises AssertionError when the rows do not add up."""
    if layout.pieces:
        rows = layout.heads * sum(rows for _, rows in layout.pieces)
        assert rows == parameter.shape[-2], f"pieces name {rows} rows, the parameter has {parameter.shape[-2]}"
    parameter.published = layout  # type: ignore[attr-defined]
    return parameter
