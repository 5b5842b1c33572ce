import math

import pytest
import torch
from scipy import linalg, stats

from openk2.optim.metrics import effective_rank, orthogonality_error, svd_entropy
from openk2.optim.newton_schulz import newton_schulz, orthogonalize_svd


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
