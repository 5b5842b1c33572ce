"""How a reply begins and ends."""

from __future__ import annotations

import re

from openk2.gym.instructions.check import Phrase, group
from openk2.gym.instructions.reading import fold, words


def starts_with(reply: str, phrase: Phrase) -> bool:
    """The phrase opens it, in any case, as words of their own."""
    text, opening = fold(reply), fold(phrase)
    return text.startswith(opening) and not (opening[-1:].isalnum() and text[len(opening) :][:1].isalnum())


def ends_with(reply: str, phrase: Phrase) -> bool:
    """The phrase closes it, in any case, as words of their own; only a quotation mark may stand behind it."""
    text, closing = fold(reply), fold(phrase)
    if not text.endswith(closing):
        text, closing = text.rstrip('"').rstrip(), closing.rstrip('"')
    before = text[: len(text) - len(closing)][-1:]
    return bool(closing) and text.endswith(closing) and not (closing[:1].isalnum() and before.isalnum())


def first_word(reply: str, word: Phrase) -> bool:
    """The first word, in any case."""
    return [fold(first) for first in words(reply)[:1]] == [fold(word)]


def last_word(reply: str, word: Phrase) -> bool:
    """The last word, in any case."""
    return [fold(last) for last in words(reply)[-1:]] == [fold(word)]


def circular(reply: str) -> bool:
    """It ends with the word it begins with, and has other words between."""
    found = words(reply)
    return len(found) > 2 and fold(found[0]) == fold(found[-1])


def repeats_first(reply: str, text: Phrase) -> bool:
    """It opens with a text word for word, in any case; then follows more."""
    opening = fold(text)
    return fold(reply).startswith(opening) and bool(words(fold(reply)[len(opening) :]))


def wrapped(reply: str, opening: Phrase, closing: Phrase) -> bool:
    """The opening mark comes first, the closing one last, and something between them."""
    text = reply.strip()
    inside = len(text) - len(opening) - len(closing)
    return (
        inside > 0
        and text.startswith(opening)
        and text.endswith(closing)
        and bool(text[len(opening) : len(opening) + inside].strip())
    )


def postscript(reply: str, marker: Phrase) -> bool:
    """The last paragraph or line that begins with the marker has words behind it, and it is the last thing said.

    Dots and blanks in the marker are free: "P.S.", "PS:" and "p. s." are one. Nothing but that line's paragraph may follow.
    """
    letters = [re.escape(character) for character in marker if character.isalnum()]
    if not letters:
        return False
    pattern = r"[^\w\n]*" + r"\.?[ ]?".join(letters) + r"(?!\w)(?P<said>.*)"
    matches = list(re.finditer(rf"(?im)^{pattern}$", reply))
    if not matches:
        return False
    rest = reply[matches[-1].start("said") :]
    return bool(words(matches[-1]["said"])) and "\n\n" not in rest.strip()


CHECKS = group(starts_with, ends_with, first_word, last_word, circular, repeats_first, wrapped, postscript)
