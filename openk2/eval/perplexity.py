"""Bits per byte of held-out text: a loss that does not depend on the tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from openk2.model.transformer import Transformer
from openk2.text.packing import Rows


@torch.no_grad()
def bits_per_byte(
    model: Transformer, batches: Iterable[tuple[Rows, int]], device: torch.device, *, bf16: bool = False
) -> float:
    """Summed loss in bits over the summed bytes the scored tokens stand for.

    ``batches`` are (rows, bytes) as ``data.stream.heldout_batches`` gives them. Raises ValueError when empty.
    """
    training = model.training
    model.eval()
    nats, num_bytes = 0.0, 0
    for rows, bytes_here in batches:
        tokens_BT, doc_ids_BT, positions_BT, mask_BT = (
            torch.from_numpy(array).to(device) for array in (rows.tokens, rows.doc_ids, rows.positions, rows.loss_mask)
        )
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits_BTV = model(tokens_BT, positions=positions_BT, doc_ids=doc_ids_BT)
        loss_BT = torch.nn.functional.cross_entropy(
            logits_BTV[:, :-1].flatten(0, 1).float(), tokens_BT[:, 1:].flatten(), reduction="none"
        )
        nats += float(loss_BT[mask_BT[:, 1:].flatten()].double().sum())
        num_bytes += bytes_here
    model.train(training)
    if num_bytes == 0:
        raise ValueError("no held-out text to score")
    return nats / math.log(2) / num_bytes
