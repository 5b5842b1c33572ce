import math

import pytest
import torch
from scipy import linalg, stats

from openk2.optim.metrics import effective_rank, orthogonality_error, svd_entropy, update_metrics
from openk2.optim.muonclip import MuonClip
from openk2.optim.newton_schulz import newton_schulz, orthogonalize_svd

from .test_muonclip import Small, give_gradients


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (3, 6, 6)])
def test_entropy_equals_scipy(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for matrix, found in zip(x.reshape(-1, *shape[-2:]), svd_entropy(x).reshape(-1), strict=True):
        power = linalg.svdvals(matrix.double().numpy()) ** 2
        want = stats.entropy(power / power.sum()) / math.log(min(shape[-2:]))
        assert found.item() == pytest.approx(want, rel=1e-5)


def test_effective_rank_counts_equal_singular_values():
    q = orthogonalize_svd(torch.randn(8, 20, generator=torch.Generator().manual_seed(0)))
    assert effective_rank(q).item() == pytest.approx(8, rel=1e-5)
    assert effective_rank(q[:3].T @ q[:3]).item() == pytest.approx(3, rel=1e-4)
    assert svd_entropy(torch.zeros(4, 4)).item() == 0.0
    assert svd_entropy(torch.outer(torch.ones(4), torch.ones(5))).item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_orthogonality_error_is_that_of_the_singular_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert orthogonality_error(orthogonalize_svd(x)).item() == pytest.approx(0, abs=1e-5)
    close = newton_schulz(x)
    want = (torch.linalg.svdvals(close.double()).square() - 1).square().mean().sqrt()
    assert orthogonality_error(close).item() == pytest.approx(want.item(), rel=1e-4)


def test_updates_are_measured_while_asked_for():
    model = Small()
    optimizer = MuonClip.for_model(model, lr=0.02, weight_decay=0.0)
    before = model.down.detach().clone()
    give_gradients(model, 0)
    with update_metrics(optimizer) as rows:
        optimizer.step()
    give_gradients(model, 1)
    optimizer.step()
    muon = [row for row in optimizer.plan() if row.algorithm == "muon"]
    assert [(row.parameter, row.block) for row in rows] == [(r.name, b.name) for r in muon for b in r.pieces]
    down = next(row for row in rows if row.parameter == "down")
    give_gradients(model, 0)
    again = MuonClip(
        [{"params": [again_down := torch.nn.Parameter(before.clone())]}], lr=0.02, weight_decay=0.0, tau=None
    )
    again_down.grad = model.down.grad
    again.step()
    moved = (before - again_down.detach()) / 0.02
    assert down.rms == pytest.approx(moved.square().mean().sqrt().item(), rel=1e-4)
    orthogonal = moved / (0.2 * math.sqrt(16))
    assert down.orthogonality_error == pytest.approx(orthogonality_error(orthogonal).mean().item(), rel=1e-3)
    assert 11 < down.effective_rank <= 12
