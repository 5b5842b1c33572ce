import pytest
import torch

from openk2.optim.coefficients import TABLES, polynomials
from openk2.optim.newton_schulz import cheaper_form, newton_schulz, orthogonalize_svd, products

# Where five steps take singular values, from the smallest part of the norm that the band is stated for.
BANDS = {"quintic": (2e-3, 0.68, 1.21), "you": (2e-3, 0.85, 1.15), "polar_express": (1e-3, 0.85, 1.13)}


def with_singular_values(sigma: torch.Tensor, rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(rows, len(sigma), generator=generator, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(columns, len(sigma), generator=generator, dtype=torch.float64)).Q
    return (u * sigma) @ v.T


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (64, 32), (32, 64)])
def test_singular_values_end_in_the_stated_band(table, form, rows, columns):
    smallest, low, high = BANDS[table]
    sigma = torch.logspace(0, -1.5, 31, dtype=torch.float64)
    sigma = torch.cat((sigma, 1.01 * smallest * sigma.norm().view(1)))
    assert smallest <= sigma.min() / sigma.norm() <= 1.02 * smallest
    x = with_singular_values(sigma, rows, columns, 0)
    got = torch.linalg.svdvals(newton_schulz(x, table=table, dtype=torch.float64, form=form))
    assert got.min() >= low
    assert got.max() <= high
    # The published polynomials, value by value.
    want = sigma / sigma.norm()
    for a, b, c in polynomials(table, 5):
        want = a * want + b * want**3 + c * want**5
    torch.testing.assert_close(got, want.sort(descending=True).values, rtol=1e-9, atol=1e-9)


def test_no_singular_value_passes_the_top_of_the_band():
    x = torch.randn(8, 48, 48, generator=torch.Generator().manual_seed(1))
    assert torch.linalg.svdvals(newton_schulz(x)).max() <= 1.21


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_forms_agree(table, dtype, tolerance):
    x = torch.randn(6, 32, 128, generator=torch.Generator().manual_seed(5))
    exact = newton_schulz(x.double(), table=table, dtype=torch.float64, form="standard")
    for form in ("standard", "gram"):
        error = (newton_schulz(x, table=table, dtype=dtype, form=form).double() - exact).norm() / exact.norm()
        assert error < tolerance, form


def test_the_default_form_is_the_one_with_fewer_operations():
    assert cheaper_form(64, 64, 5) == "standard"
    assert cheaper_form(64, 256, 5) == cheaper_form(256, 64, 5) == "gram"
    assert products(10, 30, 1, "standard") == 2 * (10 * 10 * 30 + 10**3 + 10 * 10 * 30)
    assert products(10, 30, 3, "gram") == 2 * (2 * (10 * 10 * 30 * 2) + 10**3 * (3 + 1 + 2))


def test_tables_refuse_what_they_do_not_have():
    assert polynomials("polar_express", 9)[-1] == (1.875, -1.25, 0.375)
    with pytest.raises(ValueError, match="the table 'you' is made for 5 iterations, not 4"):
        polynomials("you", 4)
    with pytest.raises(ValueError, match="no coefficients called 'polar'; there are quintic, you, polar_express"):
        polynomials("polar", 5)
    with pytest.raises(ValueError, match="at least one"):
        polynomials("quintic", 0)


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
