from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.optim.blocks import blocks

heads = st.integers(1, 5)
pieces = st.lists(st.integers(1, 6), min_size=1, max_size=4)
lead = st.sampled_from([(), (3,), (2, 2)])


@given(heads, pieces, lead, st.sampled_from(["matrix", "piece", "head"]))
@settings(max_examples=80)
def test_every_row_is_handled_exactly_once(num_heads, sizes, leading, split):
    named = tuple((f"piece{i}", size) for i, size in enumerate(sizes))
    num_rows = num_heads * sum(sizes)
    x = torch.zeros(*leading, num_rows, 2)
    found = blocks(SimpleNamespace(role="matrix", heads=num_heads, pieces=named), num_rows, split)
    num_matrices = 0
    for block in found:
        matrices = block.matrices(x)
        num_matrices += len(matrices)
        assert matrices.numel() == block.view(x).numel()
        block.view(x).add_(1)  # live: what is added here is added to x
    assert (x == 1).all()
    each = {"matrix": 1, "piece": len(sizes), "head": len(sizes) * num_heads}[split]
    assert num_matrices == each * x[..., 0, 0].numel()


def test_a_piece_holds_the_rows_of_all_its_heads():
    """kv_b of 2 heads, each 2 rows of K and 1 of V: K is rows 0, 1, 3, 4."""
    x = torch.arange(6.0)[:, None]
    layout = SimpleNamespace(role="matrix", heads=2, pieces=(("k", 2), ("v", 1)))
    k, v = blocks(layout, 6, "piece")
    assert (k.name, k.matrices(x).tolist()) == ("k", [[[0], [1], [3], [4]]])
    assert (v.name, v.matrices(x).tolist()) == ("v", [[[2], [5]]])
    k, v = blocks(layout, 6, "head")
    assert k.matrices(x).tolist() == [[[0], [1]], [[3], [4]]]
    assert v.matrices(x).tolist() == [[[2]], [[5]]]


def test_no_pieces_means_one():
    (whole,) = blocks(SimpleNamespace(role="matrix", heads=2, pieces=()), 6, "head")
    assert whole.matrices(torch.zeros(6, 3)).shape == (2, 3, 3)


@pytest.mark.parametrize(("num_heads", "named"), [(2, (("q", 4),)), (4, ()), (1, (("q", 6), ("none", 0)))])
def test_a_layout_that_does_not_fill_the_rows_is_refused(num_heads, named):
    with pytest.raises(ValueError, match="the weight has 6 rows"):
        blocks(SimpleNamespace(role="matrix", heads=num_heads, pieces=named), 6, "piece")
