import copy

import pytest
import torch
from torch import nn

from openk2.optim.muonclip import MuonClip

MUON = {"algorithm": "muon"}
ADAMW = {"algorithm": "adamw"}


def matrix():
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.eye(4)
    return weight


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (MUON | {"scale": "foo"}, r"group 1: scale: Input should be 'match_rms_adamw', 'original' or 'spectral'"),
        (MUON | {"newton_schulz": "cubic"}, r"group 1: newton_schulz: Input should be 'quintic', 'you' or"),
        (
            MUON | {"newton_schulz": "you", "newton_schulz_steps": 3},
            r"group 1: newton_schulz, newton_schulz_steps: .*'you' is made for 5 iterations, not 3",
        ),
        (MUON | {"lr": -1.0}, r"group 1: lr: Input should be greater than 0"),
        (MUON | {"mometum": 0.9}, r"group 1: muon has no mometum; it has lr, weight_decay, momentum, "),
        (ADAMW | {"betas": (0.9, 0.99)}, r"group 1: adamw has no betas; it has lr, .*adamw_betas, adamw_eps$"),
        (ADAMW | {"split": "head"}, r"group 1: adamw has no split"),
        (ADAMW | {"adamw_betas": 0.9}, r"group 1: adamw_betas: Input should be a valid tuple"),
        ({"algorithm": "adam"}, "group 1: its algorithm is 'muon' or 'adamw', not 'adam'"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(group, said):
    with pytest.raises(ValueError, match=said) as refused:
        MuonClip([{"params": [matrix()]}, {"params": [matrix()]} | group], tau=None)
    assert "\n" not in str(refused.value)
    optimizer = MuonClip([matrix()], tau=None)
    with pytest.raises(ValueError, match=said):
        optimizer.add_param_group({"params": [matrix()]} | group)
    assert len(optimizer.param_groups) == 1


def test_a_group_says_what_differs_and_takes_the_rest_from_the_config():
    groups = [{"params": [matrix()], "lr": 0.5, "name": "first"}, {"params": [matrix()], "adamw_betas": [0.8, 0.9]}]
    groups[1] |= ADAMW
    first, second = MuonClip(groups, lr=0.1, adamw_lr=0.01, momentum=0.7, weight_decay=0.3, tau=None).param_groups
    assert (first["lr"], first["initial_lr"], first["momentum"], first["weight_decay"]) == (0.5, 0.5, 0.7, 0.3)
    assert first["name"] == "first"
    assert (second["lr"], second["weight_decay"], second["adamw_betas"]) == (0.01, 0.0, (0.8, 0.9))
    assert "momentum" not in second


def stored(optimizer):
    """The state of an optimizer after a step."""
    optimizer.step()
    return copy.deepcopy(optimizer.state_dict())


def damaged(change):
    state = stored(MuonClip([matrix()], tau=None))
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            lambda: stored(torch.optim.AdamW([matrix()])),
            "group 0 of the state names no algorithm: it is not MuonClip's",
        ),
        (lambda: stored(torch.optim.Muon([matrix()])), "group 0 of the state names no algorithm: it is not MuonClip's"),
        (lambda: stored(MuonClip([{"params": [matrix()]} | ADAMW], tau=None)), "state is adamw; here it is muon"),
        (lambda: nn.Linear(4, 4).state_dict(), "no state of an optimizer: it has no state and no param_groups"),
        (lambda: damaged(lambda s: s["param_groups"][0].pop("split")), "group 0 of the state lacks split"),
        (lambda: damaged(lambda s: s["param_groups"][0].pop("params")), "group 0 of the state lacks params"),
        (
            lambda: damaged(lambda s: s["state"][0].update(exp_avg=torch.ones(4, 4))),
            "exp_avg in the state of 0: muon keeps momentum",
        ),
    ],
)
def test_the_state_of_another_optimizer_is_refused_before_anything_changes(state, said):
    weight = matrix()
    optimizer = MuonClip([weight], tau=None)
    before = stored(optimizer)
    with pytest.raises(ValueError, match=said):
        optimizer.load_state_dict(state())
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    assert torch.equal(optimizer.state[weight]["momentum"], before["state"][0]["momentum"])


def test_what_schedulers_add_to_a_group_loads():
    """OneCycleLR looks for a momentum, cycles Muon's, and leaves its bounds in the groups."""
    optimizers = [MuonClip([{"params": [matrix()]}, {"params": [matrix()]} | ADAMW], lr=0.1, tau=None) for _ in "ab"]
    schedules = [torch.optim.lr_scheduler.OneCycleLR(one, max_lr=0.1, total_steps=10) for one in optimizers]
    seen = []
    for _ in range(9):
        optimizers[0].step()
        schedules[0].step()
        seen.append((optimizers[0].param_groups[0]["lr"], optimizers[0].param_groups[0]["momentum"]))
    assert max(seen)[0] == pytest.approx(0.1)
    assert max(seen)[1] == pytest.approx(0.85)
    assert seen[-1][1] == pytest.approx(0.95)
    assert optimizers[0].param_groups[1]["adamw_betas"] == (0.9, 0.95)
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert optimizers[1].param_groups[0]["max_lr"] == 0.1


def test_a_cyclic_schedule_cycles_the_momentum():
    optimizer = MuonClip([matrix()], lr=0.1, tau=None)
    schedule = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=4)
    seen = []
    for _ in range(4):
        optimizer.step()
        schedule.step()
        seen.append(optimizer.param_groups[0]["momentum"])
    assert seen == pytest.approx([0.875, 0.85, 0.825, 0.8])
