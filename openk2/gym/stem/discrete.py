"""Number theory, counting, probability, sequences and series."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

from openk2.gym.single_turn import Generator, Question
from openk2.gym.stem.problem import problem


def _common_divisor(rng: Random, level: int) -> Question:
    """A greatest common divisor; a least common multiple; the divisor of three."""
    shared = rng.randint(3, 40) if level == 1 else rng.randint(6, 60)
    numbers = [shared * rng.randint(2, 30) for _ in range(3 if level == 3 else 2)]
    listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    key = f"divisors {sorted(numbers)}"
    if level == 2:
        return problem(f"What is the least common multiple of {listed}?", math.lcm(*numbers), key)
    if math.gcd(*numbers) in numbers:
        return _common_divisor(rng, level)
    return problem(f"What is the greatest common divisor of {listed}?", math.gcd(*numbers), key)


_MODULI = tuple(n for n in range(101, 1000) if all(n % divisor for divisor in range(2, 32)))  # primes


def _remainder(rng: Random, level: int) -> Question:
    """Of a division; of a power; the number that leaves two given remainders."""
    if level == 1:
        number, modulus = rng.randint(1000, 9999), rng.randint(13, 99)
        return problem(
            f"What is the remainder of {number} divided by {modulus}?", number % modulus, f"mod {number} {modulus}"
        )
    if level == 2:
        base, exponent, modulus = rng.randint(2, 50), rng.randint(10, 200), rng.choice(_MODULI)
        text = f"What is the remainder when {base}^{{{exponent}}} is divided by {modulus}?"
        return problem(text, pow(base, exponent, modulus), f"mod {base} {exponent} {modulus}")
    one, two = rng.sample((7, 9, 11, 13, 16, 17, 19, 23, 25), 2)
    number = rng.randrange(1, one * two)
    text = (
        f"A positive integer below {one * two} leaves remainder {number % one} when divided by {one} and {number % two} when divided "
        f"by {two}. What is it?"
    )
    return problem(text, number, f"crt {sorted((one, two))} {number}")


def _primes(rng: Random, level: int) -> Question:
    """The sum of the prime factors, each once; each as often as it occurs; the sum of all divisors."""
    factors = {rng.choice((2, 3, 5, 7, 11, 13, 17, 19, 23)): rng.randint(1, 3) for _ in range(3)}
    factors[rng.choice((29, 31, 37, 41, 43, 47))] = 1
    number = math.prod(prime**power for prime, power in factors.items())
    key = f"primes {number}"
    if level == 1:
        return problem(f"What is the sum of the different prime factors of {number}?", sum(factors), key)
    if level == 2:
        total = sum(prime * power for prime, power in factors.items())
        text = f"What is the sum of the prime factors of {number}, each counted as often as it divides the number?"
        return problem(text, total, key)
    total = math.prod((prime ** (power + 1) - 1) // (prime - 1) for prime, power in factors.items())
    return problem(f"What is the sum of all positive divisors of {number}?", total, key)


def _counting(rng: Random, level: int) -> Question:
    """Committees; committees of two groups; words with letters that repeat."""
    if level == 1:
        total, chosen = rng.randint(7, 40), rng.randint(2, 5)
        return problem(
            f"In how many ways can {chosen} of {total} people be chosen?",
            math.comb(total, chosen),
            f"choose {total} {chosen}",
        )
    if level == 2:
        women, men, few, many = rng.randint(5, 14), rng.randint(5, 14), rng.randint(2, 4), rng.randint(2, 4)
        text = f"A committee has {few} of {women} women and {many} of {men} men. How many committees are possible?"
        return problem(text, math.comb(women, few) * math.comb(men, many), f"committee {women} {few} {men} {many}")
    counts = [rng.randint(1, 4) for _ in range(rng.randint(4, 6))]
    letters = rng.sample("ABCDEFGHKLMNPRST", len(counts))
    word = [letter for letter, count in zip(letters, counts, strict=True) for _ in range(count)]
    rng.shuffle(word)
    ways = math.factorial(len(word)) // math.prod(map(math.factorial, counts))
    text = f"How many different arrangements of the letters of {''.join(word)} are there?"
    return problem(text, ways, f"arrangements {sorted(counts)} {sorted(letters)}")


def _probability(rng: Random, level: int) -> Question:
    """Two draws of one colour; one of each; at least one in three."""
    red, blue = rng.randint(3, 25), rng.randint(3, 25)
    total, draws = red + blue, 3 if level == 3 else 2
    if level == 1:
        asked, value = "both are red", Fraction(math.comb(red, 2), math.comb(total, 2))
    elif level == 2:
        asked, value = "they have different colours", Fraction(red * blue, math.comb(total, 2))
    else:
        asked, value = "at least one is red", 1 - Fraction(math.comb(blue, 3), math.comb(total, 3))
    text = (
        f"A bag has {red} red and {blue} blue balls; {draws} are drawn without putting any back. What is the probability that {asked}? "
        "Give a fraction in lowest terms."
    )
    return problem(text, value, f"balls {red} {blue} {draws}", percent=True)


def _sequence(rng: Random, level: int) -> Question:
    """A term of an arithmetic sequence; the sum of one; the sum to infinity of a geometric one."""
    first, step, place = rng.randint(-30, 60), rng.choice((-1, 1)) * rng.randint(2, 25), rng.randint(12, 90)
    shown = ", ".join(str(first + step * index) for index in range(4))
    if level == 1:
        text = f"An arithmetic sequence begins {shown}. What is its term number {place}?"
        return problem(text, first + step * (place - 1), f"arithmetic {first} {step} {place}")
    if level == 2:
        total = place * (2 * first + step * (place - 1)) // 2
        return problem(
            f"An arithmetic sequence begins {shown}. What is the sum of its first {place} terms?",
            total,
            f"arithmetic {first} {step} {place}",
        )
    bottom = rng.randint(3, 12)
    top = rng.choice((-1, 1)) * rng.randint(1, bottom - 1)
    ratio, start = Fraction(top, bottom), rng.randint(2, 40)
    text = f"A geometric series begins with {start} and has the ratio {ratio}. What is its sum to infinity? Give an integer or a fraction in lowest terms."
    return problem(text, start / (1 - ratio), f"geometric {start} {ratio}")


KINDS_OF_NUMBERS: dict[str, Generator] = {"common_divisor": _common_divisor, "remainder": _remainder, "primes": _primes}
KINDS_OF_CHANCE: dict[str, Generator] = {"counting": _counting, "probability": _probability, "sequence": _sequence}
