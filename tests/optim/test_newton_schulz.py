import pytest
import torch

from openk2.optim.newton_schulz import COEFFICIENTS, newton_schulz, orthogonalize_svd


def with_singular_values(sigma: torch.Tensor, rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(rows, len(sigma), generator=generator, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(columns, len(sigma), generator=generator, dtype=torch.float64)).Q
    return (u * sigma) @ v.T


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (64, 32), (32, 64)])
def test_singular_values_end_in_the_stated_band(rows, columns):
    sigma = torch.logspace(0, -2, 32, dtype=torch.float64)  # the smallest is 4e-3 of the norm
    assert sigma.min() / sigma.norm() > 2e-3
    got = torch.linalg.svdvals(newton_schulz(with_singular_values(sigma, rows, columns, 0), dtype=torch.float64))
    assert got.min() >= 0.68
    assert got.max() <= 1.21
    # The published polynomial, five times, value by value.
    want = sigma / sigma.norm()
    for _ in range(5):
        want = COEFFICIENTS[0] * want + COEFFICIENTS[1] * want**3 + COEFFICIENTS[2] * want**5
    torch.testing.assert_close(got, want.sort(descending=True).values, rtol=1e-9, atol=1e-9)


def test_no_singular_value_passes_the_top_of_the_band():
    x = torch.randn(8, 48, 48, generator=torch.Generator().manual_seed(1))
    assert torch.linalg.svdvals(newton_schulz(x)).max() <= 1.21


def test_points_where_the_exact_twin_points():
    x = torch.randn(4, 24, 64, generator=torch.Generator().manual_seed(2))
    exact = orthogonalize_svd(x)
    torch.testing.assert_close(exact @ exact.mT, torch.eye(24, dtype=torch.float64).expand(4, -1, -1))
    close = newton_schulz(x).double()
    cosine = (close * exact).sum((-2, -1)) / (close.norm(dim=(-2, -1)) * exact.norm(dim=(-2, -1)))
    assert cosine.min() > 0.97


@pytest.mark.parametrize("shape", [(3, 2, 16, 40), (3, 2, 40, 16), (300, 32, 32)])
def test_a_stack_equals_its_matrices_one_by_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    alone = torch.stack([newton_schulz(matrix) for matrix in x.flatten(0, -3)]).view(shape)
    torch.testing.assert_close(newton_schulz(x), alone, rtol=1e-4, atol=1e-4)


def test_scale_does_not_matter_and_zero_stays_zero():
    x = torch.randn(16, 16, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(newton_schulz(x * 1e-4), newton_schulz(x), rtol=1e-4, atol=1e-4)
    assert not newton_schulz(torch.zeros(2, 8, 8)).any()
