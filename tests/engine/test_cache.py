from __future__ import annotations

import pytest
import torch

from openk2.engine.cache import LatentSlots
from openk2.model.transformer import Transformer
from tests.engine.conftest import MODEL, full_logits


@torch.no_grad()
@pytest.mark.parametrize("chunks", [(30,), (1,) * 30, (7, 1, 12, 10), (29, 1)])
def test_cached_logits_equal_the_full_forward(model: Transformer, chunks: tuple[int, ...]) -> None:
    """Two rows, the second always one token shorter and padded on the right in its first chunk."""
    slots = LatentSlots(MODEL, num_slots=5, max_context=64, device=torch.device("cpu"), dtype=torch.float32)
    slots.latents_NSPL[:, 1:3] = 1e3  # what an earlier sequence left behind must not be seen
    ids = torch.randint(97, (2, 30), generator=torch.Generator().manual_seed(0))
    logits, start = [], torch.tensor([[0], [-1]])
    for chunk in chunks:
        positions = start + torch.arange(chunk)
        tokens = ids.gather(1, positions.clamp(min=0))
        positions = torch.where(positions < 0, 64, positions)  # the second row has nothing to do here yet
        view = slots.view(1, positions, int(start.max()) + chunk)
        logits.append(model.eval()(tokens, positions=positions, cache=view))
        start = start + chunk
    model.train()
    cached = torch.cat(logits, dim=1)
    torch.testing.assert_close(cached[0], full_logits(model, ids[0].tolist()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cached[1, 1:], full_logits(model, ids[1, :29].tolist()), atol=1e-5, rtol=1e-5)


def test_swap_exchanges_what_is_held() -> None:
    slots = LatentSlots(MODEL, num_slots=3, max_context=8, device=torch.device("cpu"), dtype=torch.float32)
    slots.latents_NSPL.normal_(generator=torch.Generator().manual_seed(0))
    before = slots.latents_NSPL.clone()
    slots.swap(0, 2, 5, 3)
    assert torch.equal(slots.latents_NSPL[:, 2, :5], before[:, 0, :5])
    assert torch.equal(slots.latents_NSPL[:, 0, :3], before[:, 2, :3])
    assert torch.equal(slots.latents_NSPL[:, 1], before[:, 1])
