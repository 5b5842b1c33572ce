"""How long a reply and its parts are."""

from __future__ import annotations

import re

from openk2.gym.instructions.check import Count, Number, Phrase, Relation, compare, group
from openk2.gym.instructions.reading import fold, lines, paragraphs, sentences, words


def num_words(reply: str, relation: Relation, number: Number) -> bool:
    """Words in all."""
    return compare(len(words(reply)), relation, number)


def num_sentences(reply: str, relation: Relation, number: Number) -> bool:
    """Sentences in all, by the rule of ``reading.sentences``."""
    return compare(len(sentences(reply)), relation, number)


def num_characters(reply: str, relation: Relation, number: Number) -> bool:
    """Characters in all, blanks around the reply aside."""
    return compare(len(reply.strip()), relation, number)


def num_lines(reply: str, relation: Relation, number: Number) -> bool:
    """Lines that are not blank."""
    return compare(len(lines(reply)), relation, number)


def num_paragraphs(reply: str, relation: Relation, number: Number) -> bool:
    """Paragraphs, which blank lines separate."""
    return compare(len(paragraphs(reply)), relation, number)


def divided_paragraphs(reply: str, number: Count, divider: Phrase = "***") -> bool:
    """Exactly so many paragraphs with a line that is the divider between each two, and none at either end left empty."""
    parts = re.split(rf"(?m)^[ \t]*{re.escape(divider)}[ \t]*$", reply)
    if len(parts) > 1 and not parts[0].strip():
        parts = parts[1:]
    if len(parts) > 1 and not parts[-1].strip():
        parts = parts[:-1]
    return len(parts) == number and all(part.strip() for part in parts)


def sentence_length(reply: str, relation: Relation, number: Number) -> bool:
    """Words in each sentence."""
    return all(compare(len(words(sentence)), relation, number) for sentence in sentences(reply))


def line_length(reply: str, relation: Relation, number: Number) -> bool:
    """Words in each line that is not blank."""
    return all(compare(len(words(line)), relation, number) for line in lines(reply))


def paragraph_begins(reply: str, number: Count, nth: Count, word: Phrase) -> bool:
    """Exactly so many paragraphs, and the one with number ``nth`` begins with the word."""
    found = paragraphs(reply)
    if len(found) != number or nth > number:
        return False
    first = words(found[nth - 1])[: len(words(word))]
    return fold(" ".join(first)) == fold(" ".join(words(word)))


CHECKS = group(
    num_words,
    num_sentences,
    num_characters,
    num_lines,
    num_paragraphs,
    divided_paragraphs,
    sentence_length,
    line_length,
    paragraph_begins,
)
