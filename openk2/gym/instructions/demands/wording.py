"""Demands on words, letters, case, digits and marks."""

from __future__ import annotations

import random
import re

from openk2.gym.instructions.bases import Base
from openk2.gym.instructions.demand import Demand, adding, maker, setting, touching

_WORDS = ("lantern", "river", "velvet", "harbour", "meadow", "copper", "violin", "thunder", "orchard", "pepper")
_MENTIONS = (
    "A {} stood nearby", "Somebody spoke of the {}", "The {} was there too", "Later came the {} again",
)  # fmt: skip
_RICH = {
    "q": "Quite quick quips quieten quarrels", "z": "Dizzy puzzles dazzle a drowsy zebra", "x": "Extra boxes relax foxes",
    "v": "Vivid violets revive every valley", "j": "Jolly jugglers enjoy jam and juice",
}  # fmt: skip
_ALLITERATION = {
    "b": "Big brown bears bring bread", "s": "Some small swans swim south", "m": "Many merry mice make music",
    "f": "Friendly foxes find fresh ferns", "g": "Good geese gather green grapes",
}  # fmt: skip


def _keywords(rng: random.Random, base: Base) -> Demand:
    words = rng.sample(_WORDS, rng.randint(1, 3))
    listed = ", ".join(f'"{word}"' for word in words)
    say = rng.choice((f"Use the following words: {listed}.", f"These words have to occur: {listed}."))
    mentions = rng.sample(_MENTIONS, len(words))
    said = [mention.format(word) for mention, word in zip(mentions, words, strict=True)]
    return Demand({"check": "keywords", "words": words}, say, adding(*said))


def _forbidden_words(rng: random.Random, base: Base) -> Demand:
    *others, verb = rng.sample(base.verbs, len(base.verbs))
    words = sorted({base.verbs[0] if verb != base.verbs[0] else others[0], rng.choice(others)})
    listed = " and ".join(f'"{word}"' for word in words)
    return Demand({"check": "forbidden_words", "words": words}, f"Avoid the words {listed}.", setting(verb=verb))


def _word_frequency(rng: random.Random, base: Base) -> Demand:
    word, number = rng.choice(_WORDS), rng.randint(2, 4)
    relation = rng.choice(("exactly", "at least"))
    say = f'Use the word "{word}" {relation} {number} times.'
    said = [mention.format(word) for mention in _MENTIONS[:number]]
    return Demand({"check": "word_frequency", "word": word, "relation": relation, "number": number}, say, adding(*said))


def _word_order(rng: random.Random, base: Base) -> Demand:
    words = rng.sample(_WORDS, 3)
    say = 'Let the words "{}", "{}" and "{}" occur in this order.'.format(*words)
    said = [mention.format(word) for mention, word in zip(_MENTIONS, words, strict=False)]
    return Demand({"check": "word_order", "words": words}, say, adding(*said))


def _letter_frequency(rng: random.Random, base: Base) -> Demand:
    letter = rng.choice(sorted(_RICH))
    number = rng.randint(2, 4)
    say = f'The letter "{letter}" has to occur at least {number} times.'
    spec = {"check": "letter_frequency", "letter": letter, "relation": "at least", "number": number}
    return Demand(spec, say, adding(_RICH[letter]))


def _words_beginning_with(rng: random.Random, base: Base) -> Demand:
    letter = rng.choice(sorted(_ALLITERATION))
    number = rng.randint(3, 5)
    say = f'At least {number} words have to begin with the letter "{letter}".'
    spec = {"check": "words_beginning_with", "letter": letter, "relation": "at least", "number": number}
    return Demand(spec, say, adding(_ALLITERATION[letter]))


def _no_long_words(rng: random.Random, base: Base) -> Demand:
    letters = rng.randint(9, 12)
    return Demand(
        {"check": "no_long_words", "letters": letters}, f"Use no word of more than {letters} letters.", setting()
    )


def _uppercase(rng: random.Random, base: Base) -> Demand:
    say = rng.choice(("Write in capital letters only.", "Use no small letters at all."))
    return Demand({"check": "all_uppercase"}, say, touching(str.upper))


def _lowercase(rng: random.Random, base: Base) -> Demand:
    say = rng.choice(("Write in small letters only.", "Use no capital letters at all."))
    return Demand({"check": "all_lowercase"}, say, touching(str.lower))


def _only_in_capitals(rng: random.Random, base: Base) -> Demand:
    name = rng.choice(base.heads[: len(base.heads) // 2 + 1])
    say = f'Write "{name}" in capital letters wherever it occurs, and no other word of two letters or more.'
    touch = touching(lambda text: re.sub(rf"\b{name}\b", name.upper(), text))
    return Demand({"check": "only_in_capitals", "words": [name]}, say, touch)


def _capital_words(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(1, len(base.rows))
    names = base.heads[:number]
    say = f"At least {number} word{'s' * (number > 1)} must be in capital letters altogether."
    touch = touching(lambda text: re.sub(rf"\b(?:{'|'.join(names)})\b", lambda match: match[0].upper(), text))
    return Demand({"check": "capital_words", "relation": "at least", "number": number}, say, touch)


def _no_digits(rng: random.Random, base: Base) -> Demand:
    say = rng.choice(("Write all numbers out in words.", "Use no digits: every number is written in words."))
    return Demand({"check": "no_digits"}, say, setting(spell=True))


def _sentence_mark(rng: random.Random, base: Base) -> Demand:
    return Demand(
        {"check": "sentences_end_with", "mark": "!"}, "End every sentence with an exclamation mark.", setting(mark="!")
    )


def _mark_count(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(2, len(base.rows))
    say = f'Use the exclamation mark "!" at least {number} times.'
    spec = {"check": "mark_count", "mark": "!", "relation": "at least", "number": number}
    return Demand(spec, say, setting(mark="!"))


def _no_full_stops(rng: random.Random, base: Base) -> Demand:
    return Demand({"check": "forbidden_characters", "characters": "."}, "Use no full stop.", setting(mark="!"))


def _no_commas(rng: random.Random, base: Base) -> Demand:
    say = rng.choice(("Do without commas.", "There must be no comma in it."))
    return Demand({"check": "forbidden_characters", "characters": ","}, say, setting())


def _highlights(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(1, len(base.rows))
    names = base.heads[:number]
    say = f"Highlight at least {number} passage{'s' * (number > 1)} in Markdown, as in *this*."
    touch = touching(lambda text: re.sub(rf"\b(?:{'|'.join(names)})\b", r"*\g<0>*", text, flags=re.IGNORECASE))
    return Demand({"check": "num_highlights", "relation": "at least", "number": number}, say, touch)


def _placeholders(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(1, 3)
    say = f"Put in at least {number} placeholder{'s' * (number > 1)} in square brackets, such as [signature]."
    said = ("Signed by [signature]", "Sent to [address]", "Written on [date]")[:number]
    return Demand({"check": "num_placeholders", "relation": "at least", "number": number}, say, adding(*said))


MAKERS = {
    "keywords": maker(_keywords, "mentions", uses=("extra",)),
    "forbidden_words": maker(_forbidden_words, "verb"),
    "word_frequency": maker(_word_frequency, "mentions", uses=("extra",)),
    "word_order": maker(_word_order, "mentions", uses=("extra",)),
    "letter_frequency": maker(_letter_frequency, uses=("extra",)),
    "words_beginning_with": maker(_words_beginning_with, uses=("extra",)),
    "no_long_words": maker(_no_long_words),
    "all_uppercase": maker(_uppercase, "case"),
    "all_lowercase": maker(_lowercase, "case"),
    "only_in_capitals": maker(_only_in_capitals, "case", uses=("plain",)),
    "capital_words": maker(_capital_words, "case", uses=("plain",)),
    "no_digits": maker(_no_digits, "digits"),
    "sentences_end_with": maker(_sentence_mark, "mark", "opening", "closing"),
    "mark_count": maker(_mark_count, "mark"),
    "no_full_stops": maker(_no_full_stops, "mark"),
    "no_commas": maker(_no_commas, "commas"),
    "num_highlights": maker(_highlights, "emphasis", uses=("plain",)),
    "num_placeholders": maker(_placeholders, uses=("extra",)),
}
