"""Riddles with one answer: words by their letters, words that change, and creatures that tell what they are (K2 §3.2)."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openk2.gym.final import FORM
from openk2.gym.names import invented_names
from openk2.gym.puzzles.kind import Kind
from openk2.gym.puzzles.words import WORDS
from openk2.gym.single_turn import Question

_ANSWER = re.compile(r"(?:(?:i am|i'm|you are|it is) )?(?:(?:an?|the) )?([a-z]+)", re.IGNORECASE | re.ASCII)
_ENDING = f"{FORM} one word alone."


def _draw(rng: random.Random, level: int) -> Question:
    return rng.choice((_letters, _changes, _creature))(rng, level)


# ---------------------------------------------------------------------------------------------
# Letters: my first is in this word and not in that one
# ---------------------------------------------------------------------------------------------

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
_LENGTH = {1: 5, 2: 6, 3: 7}
_NUM_WORDS = 16

LetterClue = tuple[int, str, str]
"""The letter at a place is in one word and not in the other."""


def fits(word: str, clues: Sequence[LetterClue]) -> bool:
    """Whether a word obeys all letter clues."""
    return all(word[place] in within and word[place] not in without for place, within, without in clues)


def _letters(rng: random.Random, level: int) -> Question:
    """Words of five letters with a clue for each at level 1; of six or seven, with the fewest clues that do, above."""
    options = rng.sample([word for word in WORDS if len(word) == _LENGTH[level]], _NUM_WORDS)
    answer = options[0]
    clues: list[LetterClue] = [(place, *_word_pair(rng, letter)) for place, letter in enumerate(answer)]
    if level > 1:
        for clue in rng.sample(clues, len(clues)):
            fewer = [other for other in clues if other is not clue]
            if [word for word in options if fits(word, fewer)] == [answer]:
                clues = fewer
    if [word for word in options if fits(word, clues)] != [answer]:
        return _letters(rng, level)
    options.sort()
    told = "\n".join(
        f"My {_ORDINALS[place]} is in {within.upper()} but not in {without.upper()}."
        for place, within, without in clues
    )
    text = f"{told}\nI am one of: {', '.join(options)}. Which word am I?\n\n{_ENDING}"
    return Question(text, answer, f"{answer} {clues}", tuple(options), {"letters": []})


def _word_pair(rng: random.Random, letter: str) -> tuple[str, str]:
    return (
        rng.choice([word for word in WORDS if letter in word]),
        rng.choice([word for word in WORDS if letter not in word]),
    )


# ---------------------------------------------------------------------------------------------
# Changes: a word that becomes another, step by step
# ---------------------------------------------------------------------------------------------

_VOWELS = "aeiou"
_CHANGES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("I lose my first letter", lambda word: word[1:]),
    ("I lose my last letter", lambda word: word[:-1]),
    ("I turn around, so that my last letter stands first", lambda word: word[::-1]),
    ("my first letter moves to my end", lambda word: word[1:] + word[0]),
    ("my last letter moves to my front", lambda word: word[-1] + word[:-1]),
    ("my first and my last letter change places", lambda word: word[-1] + word[1:-1] + word[0]),
    ("I double my last letter", lambda word: word + word[-1]),
    ("I say my second letter twice", lambda word: word[:2] + word[1:]),
    (
        "each of my vowels becomes the next of a, e, i, o, u, and u becomes a",
        lambda word: word.translate(str.maketrans(_VOWELS, _VOWELS[1:] + "a")),
    ),
    ("all my vowels leave me for my end, in their order", lambda word: _vowels_last(word)),
    (
        "each of my letters becomes the one after it in the alphabet, and z becomes a",
        lambda word: word.translate(str.maketrans(string.ascii_lowercase, string.ascii_lowercase[1:] + "a")),
    ),
)


def _vowels_last(word: str) -> str:
    return "".join(sorted(word, key=lambda letter: letter in _VOWELS))


def _changes(rng: random.Random, level: int) -> Question:
    """Two changes at level 1, three at 2, four at 3."""
    word = rng.choice([word for word in WORDS if len(word) > 4])
    steps = rng.sample(_CHANGES, level + 1)
    changed = word
    for _, change in steps:
        changed = change(changed)
    if changed == word or changed in WORDS:
        return _changes(rng, level)
    told = ". Then ".join(step for step, _ in steps)
    text = f"I begin as {word.upper()}. {told[0].upper()}{told[1:]}. What am I now?\n\n{_ENDING}"
    return Question(text, changed, f"{word} {told}", facts={"letters": list(word)})


# ---------------------------------------------------------------------------------------------
# Creatures: a table of who has what, and one of them speaks
# ---------------------------------------------------------------------------------------------

_TRAITS: Mapping[str, tuple[str, ...]] = {
    "legs": ("2", "4", "6", "8"),
    "colour": ("red", "blue", "green", "grey"),
    "food": ("seeds", "fish", "moss", "honey"),
    "home": ("caves", "trees", "ponds", "dunes"),
    "voice": ("hum", "click", "whistle", "growl"),
}
_SAYS: Mapping[str, tuple[str, str]] = {
    "legs": ("I have {} legs.", "I do not have {} legs."),
    "colour": ("I am {}.", "I am not {}."),
    "food": ("I eat {}.", "I never eat {}."),
    "home": ("I live in {}.", "I do not live in {}."),
    "voice": ("You hear me {}.", "You never hear me {}."),
}
_NUM_CREATURES = {1: 12, 2: 16, 3: 20}

Clue = tuple[str, str, bool]
"""A trait, a value, and whether the creature has it."""


def matching(creatures: Mapping[str, Mapping[str, str]], clues: Sequence[Clue]) -> list[str]:
    """The creatures that obey all clues."""
    return [
        name
        for name, traits in creatures.items()
        if all((traits[trait] == value) == has for trait, value, has in clues)
    ]


def _creature(rng: random.Random, level: int) -> Question:
    """Clues at level 1 say what it is, at 2 also what it is not, at 3 only what it is not."""
    names = invented_names(rng, _NUM_CREATURES[level])
    creatures = {name: {trait: rng.choice(values) for trait, values in _TRAITS.items()} for name in names}
    answer = names[0]
    pool: list[Clue] = [
        (trait, value, creatures[answer][trait] == value)
        for trait, values in _TRAITS.items()
        for value in values
        if level == 2 or (creatures[answer][trait] == value) == (level == 1)
    ]
    if matching(creatures, pool) != [answer]:
        return _creature(rng, level)
    clues = pool
    for clue in rng.sample(pool, len(pool)):
        fewer = [other for other in clues if other != clue]
        if matching(creatures, fewer) == [answer]:
            clues = fewer
    rows = "\n".join(
        f"{name}: {traits['legs']} legs, {traits['colour']}, eats {traits['food']}, lives in {traits['home']}, "
        f"voice a {traits['voice']}."
        for name, traits in sorted(creatures.items())
    )
    says = " ".join(_SAYS[trait][0 if has else 1].format(value) for trait, value, has in rng.sample(clues, len(clues)))
    text = f"{rows}\n\n{says} What am I?\n\n{_ENDING}"
    return Question(text, answer, f"{rows} {sorted(clues)}", tuple(sorted(names)), {"letters": []})


def _judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    match = _ANSWER.fullmatch(text)
    word = match[1].casefold() if match else None
    options = [option.casefold() for option in payload["options"]]
    if word is None or (options and word not in options):
        return None
    return bool(word == payload["answer"].casefold())


def _guess(payload: Mapping[str, Any], rng: random.Random) -> str:
    letters: list[str] = payload["letters"]
    return rng.choice(payload["options"]) if payload["options"] else "".join(rng.sample(letters, len(letters)))


KIND = Kind(_draw, _judge, _guess)
