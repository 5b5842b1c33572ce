"""Numbers as people write them, read exactly: 12, 1,250, 0.5, 3/4, 2 1/2, fractions and powers of ten in LaTeX."""

from __future__ import annotations

import re
from fractions import Fraction

_WHOLE = r"(?:0|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,12}|[1-9][0-9]{0,39})"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]{{1,40}})?|\.[0-9]{{1,40}})"
_PLAIN = re.compile(rf"(?P<sign>[-+]?) ?(?P<number>{_DECIMAL})")
_RATIO = r"(?:\\frac ?\{{ ?(?P<{0}t>-?[0-9]{{1,40}}) ?\}} ?\{{ ?(?P<{0}b>[0-9]{{1,40}}) ?\}}|(?P<{0}n>[0-9]{{1,40}}) ?/ ?(?P<{0}d>[0-9]{{1,40}}))"
_FRACTION = re.compile(r"(?P<sign>[-+]?) ?" + _RATIO.format(""))
_MIXED = re.compile(rf"(?P<sign>[-+]?) ?(?P<whole>{_WHOLE})(?: (?=[0-9])| ?(?=\\))" + _RATIO.format(""))
_SCIENTIFIC = re.compile(
    r"(?P<sign>[-+]?) ?(?P<number>[1-9](?:\.[0-9]{1,40})?)(?: ?\* ?10 ?\^ ?(?:\{ ?(?P<braced>[-+]?[0-9]{1,2}) ?\}|(?P<bare>-?[0-9]{1,2}))|[eE](?P<e>[-+]?[0-9]{1,2}))"
)


def literal(text: str) -> Fraction | None:
    """The number a tidied text is, or None when it is none or leaves something to compute.

    A fraction is in lowest terms and its denominator is over 1: 84/12 is a division to be done, 6/8 one half done. The factor of a
    power of ten is at least 1 and below 10.
    """
    if plain := _PLAIN.fullmatch(text):
        return _signed(plain, Fraction(plain["number"].replace(",", "")))
    if match := _FRACTION.fullmatch(text):
        ratio = _ratio(match)
        return None if ratio is None or (match["sign"] and ratio < 0) else _signed(match, ratio)
    if match := _MIXED.fullmatch(text):
        ratio = _ratio(match)
        whole = int(match["whole"].replace(",", ""))
        return _signed(match, whole + ratio) if ratio is not None and 0 < ratio < 1 and whole else None
    if match := _SCIENTIFIC.fullmatch(text):
        exponent = int(match["braced"] or match["bare"] or match["e"])
        return _signed(match, Fraction(match["number"]) * Fraction(10) ** exponent)
    return None


def _signed(match: re.Match[str], number: Fraction) -> Fraction:
    return -number if match["sign"] == "-" else number


def _ratio(match: re.Match[str]) -> Fraction | None:
    """The fraction of a match, when it is in lowest terms and no whole number."""
    top, bottom = int(match["t"] or match["n"]), int(match["b"] or match["d"])
    if bottom < 2 or match["t"] == "-0":
        return None
    ratio = Fraction(top, bottom)
    return ratio if ratio.denominator == bottom else None
