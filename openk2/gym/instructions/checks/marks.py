"""Case, digits and punctuation."""

from __future__ import annotations

from openk2.gym.instructions.check import Number, Phrase, Phrases, Relation, compare, group
from openk2.gym.instructions.reading import fold, lines, sentences, words

_AFTER_THE_END = "\"'”’»)]*_ \t"


def all_uppercase(reply: str) -> bool:
    """It has letters, and none of them is small."""
    return reply.isupper()


def all_lowercase(reply: str) -> bool:
    """It has letters, and none of them is a capital."""
    return reply.islower()


def capital_words(reply: str, relation: Relation, number: Number) -> bool:
    """So many words are in capitals altogether, single letters included."""
    return compare(sum(word.isupper() for word in words(reply)), relation, number)


def only_in_capitals(reply: str, words: Phrases) -> bool:
    """Each of the words occurs, wherever it does in capitals, and no other word of two letters or more is in capitals."""
    return _only_in_capitals(reply, {fold(word) for word in words})


def _only_in_capitals(reply: str, wanted: set[str]) -> bool:
    found = [(word, fold(word)) for word in words(reply)]
    kept = all(word.isupper() == (folded in wanted) for word, folded in found if folded in wanted or len(word) > 1)
    return kept and wanted <= {folded for _, folded in found}


def lines_capitalised(reply: str) -> bool:
    """The first letter of every line with letters is a capital."""
    firsts = [next((character for character in line if character.isalpha()), "") for line in lines(reply)]
    return all(first.isupper() or first.istitle() for first in firsts if first) and any(firsts)


def forbidden_characters(reply: str, characters: Phrase) -> bool:
    """None of the characters occurs."""
    return not any(character in reply for character in characters)


def no_digits(reply: str) -> bool:
    """No digit of any script, no roman numeral sign, no fraction sign."""
    return not any(character.isnumeric() and not character.isalpha() for character in reply)


def sentences_end_with(reply: str, mark: Phrase) -> bool:
    """Every sentence ends with the mark, closing quotes and brackets aside."""
    found = sentences(reply)
    return bool(found) and all(sentence.rstrip(_AFTER_THE_END).endswith(mark) for sentence in found)


def mark_count(reply: str, mark: Phrase, relation: Relation, number: Number) -> bool:
    """A mark, such as "!" or "->", occurs so often."""
    return compare(reply.count(mark), relation, number)


CHECKS = group(
    all_uppercase,
    all_lowercase,
    capital_words,
    only_in_capitals,
    lines_capitalised,
    forbidden_characters,
    no_digits,
    sentences_end_with,
    mark_count,
)
