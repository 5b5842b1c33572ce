from __future__ import annotations

import numpy as np
import pytest
import torch

from openk2.engine.cache import LatentPages
from openk2.engine.config import EngineConfig
from openk2.model.transformer import Transformer
from tests.engine.conftest import MODEL, full_logits

CONFIG = EngineConfig(max_rows=2, max_context=48, page_tokens=8)
CPU = torch.device("cpu")


def cache() -> LatentPages:
    latents = LatentPages(MODEL, CONFIG, device=CPU, dtype=torch.float32)
    latents.latents_NPGL.fill_(1e3)  # what an earlier sequence left behind must not be seen
    return latents


@torch.no_grad()
@pytest.mark.parametrize("chunks", [(30,), (1,) * 30, (7, 1, 12, 10), (29, 1)])
def test_cached_logits_equal_the_full_forward(model: Transformer, chunks: tuple[int, ...]) -> None:
    """Two rows in pages of any order, the second always one token shorter and padded on the right."""
    latents = cache()
    pages_BW = np.array([[3, 0, 7, 5, 9], [1, 11, 2, 8, 4]])
    ids = torch.randint(97, (2, 30), generator=torch.Generator().manual_seed(0))
    logits, cached_B = [], np.array([0, 0])
    for number, chunk in enumerate(chunks):
        new_B = np.array([chunk, chunk if number else chunk - 1])
        if new_B[1] == 0:  # a row with nothing to do is not in the batch
            view = latents.view(pages_BW[:1], cached_B[:1], new_B[:1])
            only = model.eval()(ids[:1, :chunk], positions=view.positions_BT, cache=view)
            logits.append(torch.cat((only, torch.zeros_like(only))))
        else:
            view = latents.view(pages_BW, cached_B, new_B)
            tokens = ids.gather(1, view.positions_BT.clamp(max=29))
            logits.append(model.eval()(tokens, positions=view.positions_BT, cache=view))
        cached_B = cached_B + new_B
    model.train()
    first = torch.cat([part[0] for part in logits])
    torch.testing.assert_close(first, full_logits(model, ids[0].tolist()), atol=1e-5, rtol=1e-5)
    second = [part[1] for part in logits]
    second[0] = second[0][: chunks[0] - 1]
    expected = full_logits(model, ids[1, :29].tolist())
    torch.testing.assert_close(torch.cat(second), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_absorbed_and_expanded_attention_agree(model: Transformer) -> None:
    attention = model.attentions()[0]
    generator = torch.Generator().manual_seed(0)
    for num_new, num_cached in ((1, 9), (4, 4), (6, 30)):
        q_BTHK = torch.randn(3, num_new, 2, 12, generator=generator)
        latent_BSL = torch.randn(3, num_cached, 20, generator=generator)
        bias_BTS = torch.zeros(3, num_new, num_cached)
        bias_BTS.masked_fill_(torch.rand(bias_BTS.shape, generator=generator) < 0.5, -torch.inf)[..., 0] = 0.0
        absorbed = attention._absorbed(q_BTHK, latent_BSL, bias_BTS)
        expanded = attention._expanded_cached(q_BTHK, latent_BSL, bias_BTS)
        torch.testing.assert_close(absorbed, expanded, atol=1e-5, rtol=1e-5)


def test_latents_read_can_be_written_elsewhere() -> None:
    latents = cache()
    latents.latents_NPGL.normal_(generator=torch.Generator().manual_seed(0))
    read = latents.read(np.array([2, 0, 5]), 19).clone()
    assert torch.equal(read[:, 8:16], latents.latents_NPGL[:, 0])
    latents.write(np.array([7, 9, 1]), read)
    assert torch.equal(latents.read(np.array([7, 9, 1]), 19), read)


def test_a_copied_page_holds_the_same_first_tokens() -> None:
    latents = cache()
    latents.latents_NPGL[:, 4] = 5.0
    latents.copy(4, 6, 3)
    assert (latents.latents_NPGL[:, 6, :3] == 5.0).all()
    assert (latents.latents_NPGL[:, 6, 3:] == 0.0).all()
    latents.copy(4, 4, 2)
    assert (latents.latents_NPGL[:, 4] == torch.tensor([5.0] * 2 + [0.0] * 6)[:, None]).all()


def test_untouched_pages_cost_no_memory() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = EngineConfig(max_rows=4096, max_context=4096)
    latents = LatentPages(MODEL, config, device=CPU, dtype=torch.float32)
    assert latents.num_bytes > 3e9
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1e8


def test_a_cache_too_small_for_one_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="one sequence of max_context 1024 takes 64"):
        EngineConfig(cache_tokens=512)
