import copy

import pytest
import torch
from torch import nn

from openk2.optim import MuonClip, QKClip

from .attention import make


def steps(module, optimizer, x, count=3):
    for _ in range(count):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["mla", "gqa"])
def test_a_clip_by_hook_is_the_clip_of_muonclip(kind):
    torch.manual_seed(0)
    inside, x = make(kind), torch.randn(3, 12, 16)
    outside = copy.deepcopy(inside)
    first = MuonClip.for_model(inside, lr=0.1, tau=0.3, qk_clip_alpha=0.3, tau_over_median=1.01)
    second = MuonClip.for_model(outside, lr=0.1, tau=None)
    clip = QKClip(outside, second, tau=0.3, alpha=0.3, tau_over_median=1.01)
    steps(inside, first, x)
    steps(outside, second, x)
    assert first.last_clip.clipped_heads > 0
    assert torch.equal(clip.last_clip.gamma_S, first.last_clip.gamma_S)
    for one, other in zip(inside.parameters(), outside.parameters(), strict=True):
        assert torch.equal(one, other)


def test_leaving_the_block_ends_the_clip():
    module, x = make("mha"), torch.randn(3, 12, 16)
    optimizer = torch.optim.AdamW(module.parameters())
    with QKClip(module, optimizer, tau=1e-3, per="layer") as clip:
        steps(module, optimizer, x, 1)
    last = clip.last_clip
    assert last.clipped_heads == 4
    assert last.gamma_S.unique().numel() == 1
    steps(module, optimizer, x, 1)
    assert clip.last_clip is last
    assert module.max_logits_H.isfinite().all()


def test_two_clips_of_one_model_are_refused():
    """They would take each other's maxima, whichever optimizers they follow."""
    model = nn.Sequential(make("mha"), make("gqa"))
    first, second = (torch.optim.AdamW(model.parameters()) for _ in range(2))
    muonclip = MuonClip.for_model(model)
    for optimizer in (muonclip, first):
        with pytest.raises(ValueError, match="a MuonClip clips this Sequential already: make it with tau=None"):
            QKClip(model, optimizer)
    del muonclip, optimizer
    with QKClip(model, first):
        with pytest.raises(ValueError, match=r"a QKClip clips this Sequential already: remove\(\) that one first"):
            QKClip(model, first)
        with pytest.raises(ValueError, match="a QKClip clips this MHA already"):
            QKClip(model[1], second)
        with pytest.raises(ValueError, match="QKClip clips this attention already: set tau to none"):
            MuonClip.for_model(model)
        MuonClip.for_model(model, tau=None)
    QKClip(copy.deepcopy(model), first)
    QKClip(model, second)


def test_a_model_with_nothing_to_clip_is_refused():
    model = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="no module of Linear has max_logits_H and qk_views"):
        QKClip(model, torch.optim.SGD(model.parameters()))


@pytest.mark.parametrize("settings", [{"tau": 0.0}, {"tau": float("nan")}, {"alpha": 7.0}, {"per": "neuron"}])
def test_settings_that_would_harm_are_refused(settings):
    module = make("mha")
    with pytest.raises(ValueError, match="tau is above 0, alpha in"):
        QKClip(module, torch.optim.AdamW(module.parameters()), **settings)


def test_a_step_that_was_skipped_clips_nothing():
    module, x = make("mha"), torch.randn(3, 12, 16)
    optimizer = MuonClip.for_model(module, tau=None, nonfinite="skip")
    with QKClip(module, optimizer, tau=1e-3) as clip:
        module(x).square().mean().backward()
        next(module.parameters()).grad.fill_(float("nan"))
        before = copy.deepcopy(module.state_dict())
        optimizer.step()
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert clip.last_clip is None
        steps(module, optimizer, x, 1)
        assert clip.last_clip.clipped_heads == 4
