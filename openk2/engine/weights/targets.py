"""What tensors must be so that an update can swap their memory: each the only one over it, each place filled once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openk2.engine.weights.parts import Box, Part, box_of, first_overlap


def check_disjoint(targets: Sequence[Part]) -> None:
    """Raises ValueError, naming two parts that fill the same place of a tensor."""
    by_tensor: dict[int, list[tuple[Box, str]]] = {}
    for part in targets:
        region = box_of(part.name, tuple(part.tensor.shape), part.where)
        by_tensor.setdefault(id(part.tensor), []).append((region, part.name))
    for regions in by_tensor.values():
        twice = first_overlap(regions)
        if twice is not None:
            (_, one), (_, other) = twice
            raise ValueError(f"{one} and {other} fill the same place of one tensor: each place takes one part")


def check_own_memory(targets: Sequence[Part]) -> None:
    """Raises ValueError, naming a tensor that is a view, or whose memory another one has too (tied weights)."""
    for part in targets:
        if part.tensor._base is not None or _tensors_over(part.tensor) > 1:
            raise ValueError(
                f"{part.name}: its tensor shares memory with another, which an update would leave behind; "
                "give the one whole tensor, and the region of it with where="
            )


def _tensors_over(tensor: Tensor) -> int:
    storage = tensor.untyped_storage()
    # Counts the handle that asks, too.
    return torch._C._storage_Use_Count(storage._cdata) - 1
