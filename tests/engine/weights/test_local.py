"""One process: the same memory."""

import pytest
import torch

from openk2.engine.weights.local import SameProcess
from openk2.engine.weights.parts import Part, whole


def test_an_update_in_one_process_copies_nothing():
    trained = {"gate_up": torch.randn(4, 6, 5), "norm": torch.randn(5)}
    gate, norm = torch.zeros(3, 5), torch.nn.Parameter(torch.zeros(5))
    shared = SameProcess(whole(trained), [Part("gate_up", gate, (4, 6, 5), (2, slice(0, 3))), Part("norm", norm, (5,))])
    assert shared.version is None
    assert gate.data_ptr() == trained["gate_up"][2, :3].data_ptr()
    assert norm.data_ptr() == trained["norm"].data_ptr()
    trained["gate_up"].add_(1)
    shared.publish(7)
    assert shared.version == 7
    assert torch.equal(gate, trained["gate_up"][2, :3])


def test_what_cannot_be_a_view_is_refused_before_anything_moves():
    parts = [
        Part("w", torch.ones(2, 3), (4, 3), (slice(0, 2),)),
        Part("w", torch.ones(2, 3), (4, 3), (slice(2, 4),)),
        *whole({"v": torch.ones(3)}),
    ]
    fine = Part("v", torch.zeros(3), (3,))
    for wrong in (
        Part("w", torch.zeros(4, 3), (4, 3)),
        Part("v", torch.zeros(3).half(), (3,)),
        Part("v", torch.zeros(4), (3,), where=(slice(0, 3),)),
    ):
        with pytest.raises(ValueError, match=f"^{wrong.name}: "):
            SameProcess(parts, [fine, wrong])
        assert not fine.tensor.any()
