"""Every number of every parameter travels once, whatever the cuts on both sides."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.weights.copies import Tensors, checksum
from openk2.engine.weights.parts import Part, shard, whole
from openk2.engine.weights.plan import Held, Plan, make_plan


def plan_of(*ranks: list[Part], bucket_bytes: int = 256) -> Plan:
    return make_plan([[Held.of(part) for part in parts] for parts in ranks], bucket_bytes)


def cuts(draw, size: int) -> list[tuple[int, int]]:
    edges = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=2))})
    return list(pairwise(edges))


@st.composite
def grids(draw, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """A way to cut a shape into boxes."""
    grid: list[tuple[slice, ...]] = [()]
    for size in shape:
        grid = [(*box, slice(*cut)) for box in grid for cut in cuts(draw, size)]
    return grid


@settings(max_examples=100)
@given(st.data())
def test_any_cut_of_the_trainers_becomes_any_cut_of_the_replicas(data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.uint8]))
    ranks: list[list[Part]] = [[], [], []]
    full, targets = {}, []
    for name in ("a", "b"):
        shape = tuple(data.draw(st.lists(st.integers(1, 7), max_size=3)))
        full[name] = torch.randint(0, 255, shape).to(dtype)
        for at in data.draw(grids(shape)):
            ranks[data.draw(st.integers(0, 2))].append(Part(name, full[name][at].clone(), shape, at))
        for at in data.draw(grids(shape)):
            targets.append(Part(name, torch.zeros_like(full[name][at]), shape, at))
    plan = plan_of(*ranks, bucket_bytes=data.draw(st.integers(64, 300)))
    plan = Plan.from_json(plan.to_json())
    plan.check(targets)

    sources, wanted = [Tensors(parts) for parts in ranks], Tensors(targets)
    for bucket in plan.buckets:
        buffer = torch.zeros(bucket.nbytes, dtype=torch.uint8)
        told = sources[bucket.source].fill(bucket, buffer)
        assert told == checksum(bucket, buffer)
        assert wanted.load(bucket, buffer) == told
        home = sources[bucket.source].bytes_of(bucket, buffer.device)
        assert home is None or torch.equal(home, buffer)
    for part in targets:
        assert torch.equal(part.tensor, full[part.name][part.at])
    numbers = sum(math.prod(piece_box) for piece_box in boxes(plan))
    assert numbers == sum(tensor.numel() for tensor in full.values())


def boxes(plan: Plan) -> list[list[int]]:
    return [[stop - start for start, stop in piece.box] for bucket in plan.buckets for piece in bucket.pieces]


def test_buckets_are_full_but_never_over():
    plan = plan_of(whole({f"w{i}": torch.zeros(25) for i in range(10)} | {"large": torch.zeros(40, 25)}))
    assert all(bucket.nbytes <= 256 for bucket in plan.buckets)
    # Two of 100 bytes fit, the third does not; of the large one's rows of 100 bytes two make a piece.
    assert [len(bucket.pieces) for bucket in plan.buckets] == [2] * 5 + [1] * 20


def test_what_several_ranks_hold_is_sent_by_the_one_with_least_to_send():
    same = {"copy": torch.zeros(10)}
    plan = plan_of(whole({"own": torch.zeros(100), **same}), whole(same))
    assert {(piece.name, bucket.source) for bucket in plan.buckets for piece in bucket.pieces} == {
        ("own", 0),
        ("copy", 1),
    }


def test_sources_take_turns():
    plan = plan_of(*(whole({f"w{rank}{i}": torch.zeros(60) for i in range(3)}) for rank in range(2)))
    assert [bucket.source for bucket in plan.buckets] == [0, 1] * 3


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([[shard("w", torch.zeros(2, 3), 0, 2)]], "w: the trainers' parts hold 6 of its 12 numbers"),
        (
            [whole({"w": torch.zeros(2, 3)}), [shard("w", torch.zeros(1, 3), 0, 2)]],
            "w: the parts at .* overlap",
        ),
        (
            [[shard("w", torch.zeros(2), 0, 2)], [shard("w", torch.zeros(2).half(), 1, 2)]],
            r"w: one rank has a part of float32 \(4,\), another of float16 \(4,\)",
        ),
        ([[], []], "no trainer rank holds any parameter"),
    ],
)
def test_parts_that_make_no_whole_are_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        plan_of(*ranks)


def test_targets_that_no_trainer_fills_are_refused():
    plan = plan_of(whole({"w": torch.zeros(4)}))
    with pytest.raises(ValueError, match="v: no trainer has such a parameter"):
        plan.check(whole({"v": torch.zeros(4)}))
    with pytest.raises(ValueError, match=r"w: here a part of \(5,\), the trainers' is \(4,\)"):
        plan.check(whole({"w": torch.zeros(5)}))


@pytest.mark.parametrize("at", [0, 7, 8, 1000, 3001])
def test_a_checksum_sees_every_bit(at):
    plan = plan_of(whole({"w": torch.zeros(3002, dtype=torch.uint8)}), bucket_bytes=4096)
    buffer = torch.randint(0, 255, (3002,), dtype=torch.uint8)
    before = checksum(plan.buckets[0], buffer)
    for bit in range(8):
        buffer[at] ^= 1 << bit
        assert checksum(plan.buckets[0], buffer) != before
        buffer[at] ^= 1 << bit
    assert checksum(plan.buckets[0], buffer) == before
