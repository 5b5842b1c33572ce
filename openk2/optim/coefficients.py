"""Odd polynomials σ ← a·σ + b·σ³ + c·σ⁵ whose composition takes singular values in (0, 1] near 1, as published."""

from __future__ import annotations

from typing import Literal, get_args

Polynomial = tuple[float, float, float]
Table = Literal["quintic", "you", "polar_express"]
TABLES: tuple[Table, ...] = get_args(Table)

# Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024: one polynomial for every step.
# The slope at zero is as steep as can be, at the price of singular values that end near 1, not at 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)

# You Jiacheng, 2025; the table that Gram Newton-Schulz (Dao-AILab, 2026) is used with. Five steps.
_YOU = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)

# Amsel, Persson, Musco, Gower, "The Polar Express", arXiv 2505.16932: each the best for the interval the one
# before leaves, from [1e-3, 1] on; the last one repeats.
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
# The paper's margin for rounding: a singular value that comes out a little above the interval must not grow.
_SAFETY = 1.01


def polynomials(table: Table, steps: int) -> list[Polynomial]:
    """The polynomials of ``steps`` iterations. Raises ValueError where the table has none for so many."""
    if steps < 1:
        raise ValueError(f"{steps} iterations: it takes at least one")
    if table == "quintic":
        return [_QUINTIC] * steps
    if table == "you":
        if steps != len(_YOU):
            raise ValueError(f"the table 'you' is made for {len(_YOU)} iterations, not {steps}")
        return list(_YOU)
    if table != "polar_express":
        raise ValueError(f"no coefficients called {table!r}; there are {', '.join(TABLES)}")
    chosen = [_POLAR_EXPRESS[min(step, len(_POLAR_EXPRESS) - 1)] for step in range(steps)]
    return [(a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in chosen[:-1]] + chosen[-1:]
