"""QK-Clip after the steps of any torch optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import nn

from openk2.optim.muonclip import MuonClip
from openk2.optim.qk_clip import CLIPPERS, ClipReport, Per, clip_, clippable, clipper_of, forget


class QKClip:
    """Clips the attention of ``model`` after every ``optimizer.step()`` (K2 §2.1).

    ``QKClip(model, torch.optim.AdamW(model.parameters()))`` is all; ``last_clip`` tells of the last clip. Settings are
    those of ``clip_``. A transformers model is observed (``hf_attention.observe``); any other offers attention
    modules as ``ClippableAttention`` says. Of several optimizers, take the one that steps last. ``remove()``, or
    leaving the ``with`` block, ends it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        tau: float = 100.0,
        alpha: float = 0.5,
        *,
        per: Per = "head",
        tau_over_median: float | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Raises ValueError for a model that is clipped already, and for one without attention that can be clipped."""
        if not tau > 0 or not 0 <= alpha <= 1 or per not in ("head", "layer"):
            raise ValueError(f"tau is above 0, alpha in [0, 1], per head or layer; got {tau}, {alpha}, {per}")
        self.last_clip: ClipReport | None = None
        self._undo: list[Callable[[], None]] = []
        if not clippable(model) and _is_transformers_model(model):
            from openk2.optim.hf_attention import observe

            self._undo.append(observe(model))
        attention = clippable(model)
        if not attention:
            raise ValueError(
                f"no module of {type(model).__name__} has max_logits_H and qk_views(): see ClippableAttention"
            )

        other = clipper_of(attention)
        if other is not None:
            instead = "make it with tau=None" if isinstance(other, MuonClip) else "remove() that one first"
            raise ValueError(f"a {type(other).__name__} clips this {type(model).__name__} already: {instead}")

        skipped = 0

        def clip(*_: Any) -> None:
            nonlocal skipped
            if isinstance(optimizer, MuonClip) and optimizer.skipped_steps > skipped:
                skipped = optimizer.skipped_steps
                forget(attention)
                return
            self.last_clip = clip_(attention, tau, alpha, per=per, tau_over_median=tau_over_median, group=group)

        try:
            self._undo.append(optimizer.register_step_post_hook(clip).remove)
        except BaseException:
            self.remove()
            raise
        CLIPPERS[self] = attention

    def remove(self) -> None:
        """End the clipping and the observing; the model runs its own attention again."""
        CLIPPERS.pop(self, None)
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _is_transformers_model(model: nn.Module) -> bool:
    """Without importing transformers, which may be absent."""
    return any(base.__name__ == "PreTrainedModel" for base in type(model).__mro__)
