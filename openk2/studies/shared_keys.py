"""A rule for keys that several query heads share (GQA), to compare with QK-Clip's own: clip the key for the worst head.

Shapes: H query heads, G key heads, Q = H/G query heads to a key head, S all query heads of all modules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openk2.optim.qk_clip import ClippableAttention, ClipReport


@torch.no_grad()
def clip_for_worst_(modules: Sequence[ClippableAttention], seen: ClipReport, tau: float) -> ClipReport:
    """Scale queries by their own √γ and a shared key by the smallest √γ of its group, after a clip that did nothing.

    No head's logits pass ``tau``, but most of a group end below, and a head that needed no clip is clipped with the
    others. The report's γ is what the logits really changed by. ``seen`` tells of the maxima; for MHA and GQA alone.
    """
    changes_S = []
    for module, top_H in zip(modules, seen.max_logits_S.split([len(m.max_logits_H) for m in modules]), strict=True):
        views = module.qk_views()
        gamma_H = (tau / top_H.clamp(min=tau)).where(top_H.isfinite(), 1.0)
        gamma_GQ = gamma_H.view(len(views["k"]), -1)
        key_G1 = gamma_GQ.amin(dim=1, keepdim=True).sqrt()
        for name, view in views.items():
            factor = gamma_H.sqrt() if name.startswith("q") else key_G1.flatten()
            view.mul_(factor.view(-1, *[1] * (view.ndim - 1)))
        changes_S.append((gamma_GQ.sqrt() * key_G1).flatten())
    return ClipReport(seen.max_logits_S, torch.cat(changes_S))
