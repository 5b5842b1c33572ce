"""Latents of past tokens, one slot a sequence (K2 §2.3: multi-head latent attention caches C + R numbers a token).

Shapes: N layers, S slots, P positions, L = C + R latent width, B slots of a batch, T new tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openk2.model.config import ModelConfig

# Attention reads this many positions at a time: the read width changes seldom, little is read in vain.
_POSITION_STEP = 32


class LatentSlots:
    """One tensor [N, S, P + 1, L]. The last position takes what padding writes; nobody reads it.

    A batch is always a range of neighbouring slots, so reading it is a view and never a copy.
    """

    def __init__(
        self, config: ModelConfig, *, num_slots: int, max_context: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.max_context = max_context
        width = config.kv_lora_rank + config.qk_rope_head_dim
        # Zeros, because a masked position still enters a product with weight 0.
        self.latents_NSPL = torch.zeros(
            config.num_layers, num_slots, max_context + 1, width, device=device, dtype=dtype
        )

    def view(self, first_slot: int, positions_BT: Tensor, longest: int) -> SlotView:
        """Slots ``first_slot`` … ``first_slot + B − 1`` as a cache for one forward pass.

        Args:
            first_slot: where the batch begins.
            positions_BT: position of each new token; ``max_context`` for padding.
            longest: most tokens any of these slots holds after the pass.
        """
        return SlotView(self, first_slot, positions_BT, longest)

    def copy(self, source: int, target: int, length: int) -> None:
        """Overwrite the first ``length`` positions of slot ``target`` with those of ``source``."""
        self.latents_NSPL[:, target, :length] = self.latents_NSPL[:, source, :length]

    def swap(self, a: int, b: int, length_a: int, length_b: int) -> None:
        """Exchange two slots that hold ``length_a`` and ``length_b`` tokens."""
        kept = self.latents_NSPL[:, a, :length_a].clone()
        self.copy(b, a, length_b)
        self.latents_NSPL[:, b, :length_a] = kept


class SlotView:
    """A range of slots during one forward pass: the model's ``LatentCache``."""

    def __init__(self, slots: LatentSlots, first_slot: int, positions_BT: Tensor, longest: int) -> None:
        batch = positions_BT.shape[0]
        rounded = -(-longest // _POSITION_STEP) * _POSITION_STEP
        width = min(rounded, slots.max_context)
        self._latents_NBPL = slots.latents_NSPL[:, first_slot : first_slot + batch]
        self._positions_BT = positions_BT
        self._rows_B1 = torch.arange(batch, device=positions_BT.device).unsqueeze(1)
        # A token sits at its own position, so it sees the positions up to it; padding sees anything.
        self._mask_BTP = torch.arange(width, device=positions_BT.device) <= positions_BT.unsqueeze(-1)
        self._width = width

    def extend(self, layer: int, latent_BTL: Tensor) -> tuple[Tensor, Tensor]:
        """Store new latents; return those of the batch, [B, P, L], and who sees whom, [B, T, P]."""
        latents_BPL = self._latents_NBPL[layer]
        latents_BPL[self._rows_B1, self._positions_BT] = latent_BTL
        return latents_BPL[:, : self._width], self._mask_BTP
