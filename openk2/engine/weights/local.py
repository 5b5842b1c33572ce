"""Trainer and inference in one process: the same memory under two names, so an update is a new version number."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from openk2.engine.weights.parts import Part, overlap
from openk2.engine.weights.rounds import check_version
from openk2.engine.weights.targets import check_disjoint, check_own_memory


class SameProcess:
    """Targets that are views of the trainer's tensors; cut differently or not, nothing is ever copied."""

    def __init__(self, parts: Sequence[Part], targets: Sequence[Part]) -> None:
        """Point every target's tensor at the trainer's memory.

        Raises ValueError, before anything is changed, naming a target that is no view of one of ``parts``: another
        dtype, spread over several, or a region of a larger tensor; or one that shares memory with another tensor.
        """
        check_disjoint(targets)
        check_own_memory(targets)
        self.version: int | None = None
        views = [_view(target, parts) for target in targets]
        for target, view in zip(targets, views, strict=True):
            target.tensor.data = view

    def publish(self, version: int) -> None:
        """Name what the trainer's tensors hold now. Raises ValueError for a version that is none."""
        check_version(version)
        self.version = version


def _view(target: Part, parts: Sequence[Part]) -> Tensor:
    if target.where:
        raise ValueError(f"{target.name}: a region of a larger tensor cannot be a view of the trainer's memory")
    for part in parts:
        same = (part.name, part.shape, part.tensor.dtype) == (target.name, target.shape, target.tensor.dtype)
        if same and not target.tensor.numel():
            return target.tensor.detach()
        if same and overlap(part.box, target.box) == target.box:
            # Only numbered dimensions go, each of one element.
            return part.view(target.box).view(target.tensor.shape)
    raise ValueError(f"{target.name}: no trainer's tensor of {target.tensor.dtype} holds all of {target.box}")
