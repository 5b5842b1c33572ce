"""Problems about integers."""

from __future__ import annotations

from math import gcd
from random import Random
from typing import Any

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import draw


def _digits(n: int, k: int) -> list[int]:
    return ([*_digits(n // k, k), n % k]) if n else []


def _far(rng: Random, size: int) -> list[Any]:
    return [rng.randint(10**12, 10**15)] if size > 50 else [rng.randint(0, 3 + 5 * size)]


def _recurrence(n: int, k: int, m: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, k * b + m * a
    return a % 1_000_007


KINDS = (
    Kind(
        "digit_sum", 1, (("n", "int"),), "int",
        "Write the non-negative integer n in base {k} and add up its digits; then multiply the sum by the number of digits that are not 0.",
        """
def digit_sum(n):
    total = count = 0
    while n:
        n, digit = divmod(n, K)
        total += digit
        count += digit > 0
    return total * count
""",
        lambda n, k, m: sum(_digits(n, k)) * sum(d > 0 for d in _digits(n, k)), draw.number, (2, 3, 4, 5, 6, 7, 8, 9, 10),
    ),
    Kind(
        "other_divisors", 1, (("n", "int"),), "int",
        "Add up the positive divisors of the non-negative integer n that are not multiples of {k}. For n = 0 the result is 0.",
        """
def other_divisors(n):
    return sum(d for d in range(1, n + 1) if n % d == 0 and d % K)
""",
        lambda n, k, m: sum({d for a in range(1, n + 1) for d in (a, n // a) if a * (n // a) == n and d % k != 0}), draw.number, (2, 3, 4, 5, 6),
    ),
    Kind(
        "in_base", 2, (("n", "int"),), "ints",
        "Give the digits of n in base {k}, the most significant first, as numbers; for 0 that is the one digit 0. A negative n has the digits of "
        "its absolute value, each with a minus sign.",
        """
def in_base(n):
    rest, digits = abs(n), []
    while rest or not digits:
        rest, digit = divmod(rest, K)
        digits.append(-digit if n < 0 else digit)
    return digits[::-1]
""",
        lambda n, k, m: [(-1 if n < 0 else 1) * d for d in (_digits(abs(n), k) or [0])],
        lambda rng, size: [rng.choice((-1, 1, 1)) * draw.number(rng, size)[0]], (2, 3, 4, 5, 7, 11, 16),
    ),
    Kind(
        "smooth_count", 2, (("n", "int"),), "int",
        "Count the integers from 1 to n whose decimal digit sum is a multiple of {k} and whose last digit is not {m}.",
        """
def smooth_count(n):
    return sum(sum(map(int, str(x))) % K == 0 and x % 10 != M for x in range(1, n + 1))
""",
        lambda n, k, m: len([x for x in range(n + 1) if x and not sum(_digits(x, 10)) % k and str(x)[-1] != str(m)]),
        draw.number, (2, 3, 4, 5), (0, 1, 5), large=30,
    ),
    Kind(
        "coprime_count", 3, (("n", "int"),), "int",
        "Count the integers from 1 to n that have no common divisor with {k} other than 1. n may be as large as 10**15.",
        """
def coprime_count(n):
    from math import gcd
    whole, rest = divmod(n, K)
    return whole * sum(gcd(x, K) == 1 for x in range(1, K + 1)) + sum(gcd(x, K) == 1 for x in range(1, rest + 1))
""",
        lambda n, k, m: sum(gcd(x, k) == 1 for x in range(1, n + 1)), _far, (6, 10, 12, 15, 30, 42), slow_to=50,
    ),
    Kind(
        "far_term", 3, (("n", "int"),), "int",
        "A sequence begins x(0) = 0, x(1) = 1 and goes on x(i) = {k} * x(i - 1) + {m} * x(i - 2). Give x(n) modulo 1000007. n may be "
        "as large as 10**15.",
        """
def far_term(n):
    def times(p, q):
        return tuple(sum(p[2 * r + i] * q[2 * i + c] for i in (0, 1)) % 1000007 for r in (0, 1) for c in (0, 1))
    result, power = (1, 0, 0, 1), (K, M, 1, 0)
    while n:
        if n & 1:
            result = times(result, power)
        power = times(power, power)
        n >>= 1
    return result[2]
""",
        _recurrence, _far, (1, 2, 3, 4), (1, 2, 3), slow_to=50,
    ),
)  # fmt: skip
