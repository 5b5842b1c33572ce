"""Which words and letters occur, how often, in which order."""

from __future__ import annotations

from collections import Counter

from openk2.gym.instructions.check import Character, Count, Flag, Number, Phrase, Phrases, Relation, compare, group
from openk2.gym.instructions.reading import count_phrase, fold, words


def keywords(reply: str, words: Phrases, whole: Flag = True) -> bool:
    """All of them occur, in any case; ``whole``: as words of their own."""
    return all(count_phrase(reply, word, whole=whole) for word in words)


def forbidden_words(reply: str, words: Phrases) -> bool:
    """None of them occurs as a word of its own, in any case."""
    return not any(count_phrase(reply, word) for word in words)


def word_frequency(reply: str, word: Phrase, relation: Relation, number: Number, whole: Flag = True) -> bool:
    """A word occurs so often."""
    return compare(count_phrase(reply, word, whole=whole), relation, number)


def letter_frequency(reply: str, letter: Character, relation: Relation, number: Number) -> bool:
    """A letter, or another character, occurs so often, in either case."""
    return compare(reply.casefold().count(letter.casefold()), relation, number)


def word_order(reply: str, words: Phrases) -> bool:
    """All of them occur as words of their own, each for the first time after the one before it."""
    text, place = f" {fold(reply)} ", -1
    for word in words:
        first = _first(text, fold(word))
        if first <= place:
            return False
        place = first
    return True


def _first(text: str, word: str) -> int:
    """Where a folded word stands for the first time, as one of its own; -1 for nowhere."""
    place = text.find(word)
    while place >= 0:
        around = text[place - 1 : place] + text[place + len(word) : place + len(word) + 1]
        if not any(character.isalnum() or character == "_" for character in around):
            return place
        place = text.find(word, place + 1)
    return -1


def no_long_words(reply: str, letters: Count) -> bool:
    """No word has more than so many letters."""
    return all(sum(map(str.isalpha, word)) <= letters for word in words(reply))


def no_repeated_words(reply: str, letters: Count) -> bool:
    """No word of at least so many letters is used twice."""
    used = Counter(word.casefold() for word in words(reply) if sum(map(str.isalpha, word)) >= letters)
    return all(times == 1 for times in used.values())


def words_beginning_with(reply: str, letter: Character, relation: Relation, number: Number) -> bool:
    """So many words begin with a letter, in either case."""
    return compare(sum(word.casefold().startswith(letter.casefold()) for word in words(reply)), relation, number)


CHECKS = group(
    keywords,
    forbidden_words,
    word_frequency,
    letter_frequency,
    word_order,
    no_long_words,
    no_repeated_words,
    words_beginning_with,
)
