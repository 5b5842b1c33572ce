"""Replies that hide what they say, fill themselves up, or say the task back: none earns anything (K2 §3.2, hack-check)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from openk2.gym.instructions.reading import fold, sentences, words

_LOOKALIKES = frozenset("аеорсухіїјѕԁһԛԝАВЕЅІЈКМНОРСТХУԌΑΒΕΖΗΙΚΜΝΟΡΤΥΧοαν") - frozenset("α")
_CONTROL = re.compile(r"[^\n\r\t -~]")
_JOINERS = "\u200c\u200d"


def disguises(reply: str) -> bool:
    """Whether it holds control or format characters that show nothing, or letters of another script that look Latin.

    Joiners are fine beside letters that need them and in emoji, direction marks beside Hebrew and Arabic.
    """
    if reply.isascii():
        return _CONTROL.search(reply) is not None
    rightward = any(unicodedata.bidirectional(character) in ("R", "AL") for character in reply)
    for place, character in enumerate(reply):
        kind = unicodedata.category(character)
        if kind == "Cc" and character not in "\n\r\t":
            return True
        if kind in ("Cf", "Co", "Cs") and not _is_needed(reply, place, rightward):
            return True
    return any(_is_mixed(word) for word in words(reply))


def _is_needed(reply: str, place: int, rightward: bool) -> bool:
    if reply[place] in _JOINERS:
        before = reply[place - 1 : place]
        return bool(before) and not before.isascii()
    return rightward and unicodedata.category(reply[place]) == "Cf" and reply[place] in "\u200e\u200f\u061c"


def _is_mixed(word: str) -> bool:
    return any(character in _LOOKALIKES for character in word) and bool(re.search("[A-Za-z]", word))


_MOST_ALIKE = 3  # times the same line or word may follow, or stand


def repeats(reply: str) -> bool:
    """Whether it is filled up: a sentence of three words or more stands over three times, or a word over three times in a row."""
    said = Counter(sentence for sentence in map(fold, sentences(reply)) if len(words(sentence)) > 2)
    if any(times > _MOST_ALIKE for times in said.values()):
        return True
    run, last = 0, ""
    for word in map(fold, words(reply)):
        run, last = (run + 1 if word == last else 1), word
        if run > _MOST_ALIKE:
            return True
    return False


_FEWEST_COPIED = 12  # words; an answer that the task offers to choose from has fewer


def copies(reply: str, question: str) -> bool:
    """Whether it is the question, or of some length and says nothing that the question does not say."""
    asked = fold(question)
    return fold(reply) == asked or (
        len(words(reply)) >= _FEWEST_COPIED and all(fold(sentence) in asked for sentence in sentences(reply))
    )
