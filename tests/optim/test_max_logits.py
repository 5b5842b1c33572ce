import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from openk2.optim.max_logits import CHUNK, max_logits


def plain(q_BTHK, k_BSGK, scale, mask_BHTS, causal):
    """All scores at once, in float64."""
    k_BSHK = k_BSGK.double().repeat_interleave(q_BTHK.shape[2] // k_BSGK.shape[2], dim=2)
    scores_BHTS = torch.einsum("bthk,bshk->bhts", q_BTHK.double(), k_BSHK) * scale
    visible = torch.ones(scores_BHTS.shape, dtype=torch.bool)
    if mask_BHTS is not None:
        visible &= mask_BHTS
    if causal:
        visible &= torch.ones(scores_BHTS.shape[2:], dtype=torch.bool).tril()
    return scores_BHTS.masked_fill(~visible, -math.inf).amax((0, 2, 3))


@settings(max_examples=60)
@given(
    rows=st.integers(1, 3),
    queries=st.sampled_from([1, 2, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5]),
    keys=st.sampled_from([1, 6, CHUNK + 3, None]),
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    masked=st.sampled_from([None, "row", "head", "keys"]),
    causal=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_maximum_over_all_scores(rows, queries, keys, groups, shared, masked, causal, seed):
    torch.manual_seed(seed)
    keys = keys or queries
    q, k = torch.randn(rows, queries, groups * shared, 5), torch.randn(rows, keys, groups, 5)
    shape = {"row": (rows, 1, queries, keys), "head": (1, groups * shared, queries, keys), "keys": (rows, 1, 1, keys)}
    mask = torch.rand(shape[masked]) < 0.3 if masked else None
    expected = plain(q, k, 0.37, mask, causal)
    torch.testing.assert_close(max_logits(q, k, 0.37, mask, causal).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_visible_nan_shows_and_a_hidden_one_does_not():
    q, k = torch.randn(2, 9, 4, 5), torch.randn(2, 9, 2, 5)
    k[0, 8, 1, 2] = math.nan
    seen = torch.ones(2, 1, 9, 9, dtype=torch.bool)
    assert max_logits(q, k, 1.0, seen, causal=True).isnan().tolist() == [False, False, True, True]
    seen[0, :, :, 8] = False
    assert max_logits(q, k, 1.0, seen, causal=True).isfinite().all()


def test_it_takes_no_gradient_and_no_rounding_from_autocast():
    q, k = torch.randn(1, 5, 2, 8, requires_grad=True), torch.randn(1, 5, 2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        top = max_logits(q, k, 1.0, None, causal=True)
    assert not top.requires_grad
    torch.testing.assert_close(top.double(), plain(q.detach(), k, 1.0, None, True), rtol=1e-5, atol=1e-6)


def test_memory_is_a_chunk_of_queries():
    """Nothing as large as the scores of all queries is ever allocated."""
    q = torch.randn(1, 8 * CHUNK, 2, 4)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        max_logits(q, q, 1.0, None, causal=True)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 4 * 2 * CHUNK * 8 * CHUNK


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3 query heads cannot share 2 key heads"):
        max_logits(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 2, 4), 1.0, None, causal=True)


def test_it_reads_no_number():
    """A fake tensor has none: looking at one is an error."""
    with FakeTensorMode():
        q, mask = torch.randn(2, 3, 4, 5), torch.ones(2, 1, 3, 3, dtype=torch.bool)
        assert max_logits(q, q, 1.0, mask, causal=True).shape == (4,)
