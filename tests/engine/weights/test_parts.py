"""A part says which region of a full parameter a region of a tensor is."""

import numpy as np
import pytest
import torch

from openk2.engine.weights.parts import Part, overlap, shard
from openk2.engine.weights.plan import held_from_json, held_to_json


def test_an_unfused_gate_of_one_expert():
    stack = torch.randn(4, 6, 5)
    gate = Part("gate_up", torch.zeros(3, 5), (4, 6, 5), at=(2, slice(0, 3)))
    assert gate.box == ((2, 3), (0, 3), (0, 5))
    source = Part("gate_up", stack, (4, 6, 5))
    gate.view(gate.box).copy_(source.view(gate.box))
    assert torch.equal(gate.tensor, stack[2, :3])


def test_a_region_of_a_larger_tensor():
    fused = torch.zeros(7, 3)
    part = Part("up", fused, (4, 3), where=(slice(3, 7),))
    part.view(((1, 2), (0, 3))).fill_(1)
    assert fused.sum(1).tolist() == [0, 0, 0, 0, 3, 0, 0]


def test_a_shard_of_any_dimension():
    assert shard("w", torch.zeros(2, 5), rank=1, ranks=3).box == ((2, 4), (0, 5))
    assert shard("w", torch.zeros(5, 2), rank=2, ranks=3, dim=1).box == ((0, 5), (4, 6))


@pytest.mark.parametrize(
    ("at", "where", "message"),
    [
        ((slice(0, 3),), (), r"w: the part at .* has shape \(3, 5\), its tensor's region \(2, 5\)"),
        ((slice(3, 5),), (), "w: 3:5 is no part of dimension 0, which has 4"),
        ((-1,), (), "w: -1:0 is no part of dimension 0"),
        ((slice(0, 4, 2),), (), "w: slices have no step"),
        ((0, 0, 0), (), "more dimensions than the shape"),
        ((...,), (), r"w: an index is whole numbers and slices of them, got Ellipsis"),
        ((True,), (), r"w: an index is whole numbers and slices of them, got True"),
        ((slice(0.0, 2),), (), r"w: an index is whole numbers and slices of them, got slice\(0.0, 2, None\)"),
        ((slice(0, 2),), (slice(0, 3),), "w: 0:3 is no part of dimension 0, which has 2"),
    ],
)
def test_regions_that_do_not_fit_are_refused(at, where, message):
    with pytest.raises(ValueError, match=message):
        Part("w", torch.zeros(2, 5), (4, 5), at, where)


def test_numbers_of_numpy_are_numbers():
    two = np.int64(2)
    part = Part("w", torch.zeros(2, 5), (4, 6, 5), at=(two, slice(np.int64(1), 1 + two)), where=(slice(0, two),))
    assert held_from_json(held_to_json([part]))[0].box == ((2, 3), (1, 3), (0, 5))
    assert part.view(part.box).shape == (1, 2, 5)


def test_boxes_that_only_touch_have_nothing_in_common():
    assert overlap(((0, 2), (0, 5)), ((2, 4), (0, 5))) is None
    assert overlap(((0, 3), (0, 5)), ((2, 4), (1, 2))) == ((2, 3), (1, 2))
