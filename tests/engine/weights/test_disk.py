"""A checkpoint that one rank reads for all."""

import pytest
import torch
from safetensors.torch import save_file

from openk2.engine.weights.disk import collective_read, disk_parts, record_checksums
from openk2.engine.weights.meeting import Meeting

from .fleet import PATIENCE, Child, full, reader, replica_parts, version_held


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file(full(3), folder / "model.safetensors")
    return folder


@pytest.fixture
def reading():
    """Rank 0's meeting and two other ranks that never see the folder."""
    meeting = Meeting.host()
    children = [Child(reader, meeting.address, rank, 3) for rank in (1, 2)]
    for child in children:
        child.hear()
        child.tell("read")
    yield meeting, children
    for child in children:
        child.close()


def test_one_rank_reads_the_disk_for_all(folder, reading):
    meeting, children = reading
    parts = replica_parts(0, 1)
    collective_read(folder, parts, meeting, rank=0, ranks=3)
    assert version_held(parts) == 3
    for child in children:
        assert child.hear() is None
        assert child.ask("holds") == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_corrupt_shard_is_one_line_at_every_rank(folder, reading, damage):
    meeting, children = reading
    record_checksums(folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(whole[:-1] if damage == "truncated" else whole[:-1] + bytes([whole[-1] ^ 1]))
    message = {"truncated": "not a whole safetensors file", "flipped": "is damaged", "gone": "holds neither"}[damage]
    parts = replica_parts(0, 1)
    with pytest.raises(ValueError, match=message) as told:
        collective_read(folder, parts, meeting, rank=0, ranks=3)
    assert "\n" not in str(told.value)
    assert version_held(parts) is None
    for child in children:
        kind, text, seconds = child.hear(PATIENCE)
        assert (kind, text) == ("ValueError", f"the trainers have no plan: {told.value}")
        assert seconds < PATIENCE


def test_without_recorded_checksums_only_the_form_is_checked(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    read = {part.name: part.tensor for part in disk_parts(folder)}
    assert sum(not torch.equal(read[name], tensor) for name, tensor in full(3).items()) == 1
