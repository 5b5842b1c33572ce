"""What a swap of memory would miss, or fill twice, is refused; so is what a cast would lose."""

import pytest
import torch
from torch import nn

from openk2.engine.weights.config import WeightsConfig
from openk2.engine.weights.local import SameProcess
from openk2.engine.weights.meeting import Meeting
from openk2.engine.weights.parts import Part, whole
from openk2.engine.weights.plan import Held, make_plan
from openk2.engine.weights.replica import Replica
from openk2.engine.weights.trainer import Trainer

TRAINED = {"w": torch.ones(4, 4), "v": torch.ones(4, 4)}


@pytest.fixture(params=["replica", "same process"])
def take(request, shared_folder):
    """Have targets filled by TRAINED, in either way."""
    if request.param == "same process":
        yield lambda targets: SameProcess(whole(TRAINED), targets)
        return
    meeting = Meeting.host()
    trainer = Trainer(whole(TRAINED), meeting, WeightsConfig(folder=shared_folder))
    yield lambda targets: Replica("r", targets, Meeting.join(meeting.address))
    trainer.close()


def view() -> tuple[torch.Tensor, ...]:
    large = torch.zeros(8, 4)
    return large[:4], large


def tied() -> tuple[torch.Tensor, ...]:
    embedding = nn.Parameter(torch.zeros(4, 4))
    return nn.Parameter(embedding.data), embedding


def of_a_state_dict() -> tuple[torch.Tensor, ...]:
    layer = nn.Linear(4, 4, bias=False)
    return layer.state_dict()["weight"], layer.weight


@pytest.mark.parametrize("make", [view, tied, of_a_state_dict])
def test_a_tensor_whose_memory_another_has_too_is_refused(take, make):
    target, other = make()
    before = other.clone()
    with pytest.raises(ValueError, match=r"^w: its tensor shares memory with another, .*the region of it with where=$"):
        take([Part("w", target, (4, 4))])
    assert torch.equal(other, before)


def test_one_tied_parameter_may_be_used_under_many_names(take):
    head, embedding = nn.Linear(4, 4, bias=False), nn.Embedding(4, 4)
    head.weight = embedding.weight
    take([Part("w", head.weight, (4, 4))])


def test_two_parameters_in_one_place_are_refused(take):
    tensor = torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"^v and w fill the same place of one tensor: each place takes one part$"):
        take(whole({"w": tensor, "v": tensor}))
    fused = torch.zeros(7, 4)
    with pytest.raises(ValueError, match=r"^v and w fill the same place"):
        take([Part("v", fused, (4, 4), where=(slice(0, 4),)), Part("w", fused, (4, 4), where=(slice(3, 7),))])


@pytest.mark.parametrize(
    ("sent", "kept", "fits"),
    [
        (torch.float32, torch.int8, False),
        (torch.float32, torch.bool, False),
        (torch.complex64, torch.float32, False),
        (torch.int64, torch.bool, False),
        (torch.float32, torch.bfloat16, True),
        (torch.float32, torch.float8_e4m3fn, True),
        (torch.bfloat16, torch.complex64, True),
        (torch.int64, torch.float32, True),
        (torch.uint8, torch.uint8, True),
    ],
)
def test_a_cast_that_loses_more_than_digits_is_refused(sent, kept, fits):
    plan = make_plan([[Held.of(part) for part in whole({"w": torch.zeros(3, dtype=sent)})]], 64)
    target = whole({"w": torch.zeros(3, dtype=kept)})
    if fits:
        plan.check(target)
        return
    with pytest.raises(ValueError, match=rf"^w: the trainers' {sent} does not fit in {kept}$".replace("torch.", "")):
        plan.check(target)


def test_a_parameter_without_numbers_is_published_like_any(shared_folder):
    trained = {"none": torch.zeros(0, 3), "w": torch.ones(2)}
    served = {"none": torch.zeros(0, 3), "w": torch.zeros(2)}
    meeting = Meeting.host()
    trainer = Trainer(whole(trained), meeting, WeightsConfig(folder=shared_folder))
    trainer.publish(1)
    assert Replica("r", whole(served), Meeting.join(meeting.address)).version == 1
    assert torch.equal(served["w"], trained["w"])
    trainer.close()
    SameProcess(whole(trained), whole({"none": torch.zeros(0, 3)}))


@pytest.mark.parametrize("version", [-1, 2**63, 1.5, "1"])
def test_a_version_that_is_none_is_refused_before_anybody_is_called(shared_folder, version):
    meeting = Meeting.host()
    trainer = Trainer(whole(TRAINED), meeting, WeightsConfig(folder=shared_folder))
    for publisher in (trainer, SameProcess(whole(TRAINED), [])):
        with pytest.raises(ValueError, match=rf"^a version is a whole number from 0 to 2\^63 - 1, got {version!r}$"):
            publisher.publish(version)
    trainer.publish(2**63 - 1)
    assert Replica("r", whole({"w": torch.zeros(4, 4)}), Meeting.join(meeting.address)).version == 2**63 - 1
    trainer.close()
