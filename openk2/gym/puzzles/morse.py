"""Morse code, both ways, also of messages that were changed first (K2 §3.2)."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from openk2.gym.final import FORM
from openk2.gym.names import invented_names
from openk2.gym.puzzles.kind import Kind
from openk2.gym.single_turn import Question

_CODES = ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.."
CODE = dict(zip(string.ascii_uppercase, _CODES.split(" "), strict=True))
"""International Morse code of the letters."""

_MOST_CHARACTERS = 500
_SIGNS = str.maketrans({"·": ".", "•": ".", "∙": ".", "−": "-", "–": "-", "—": "-", "|": "/"})

Step = tuple[str, int]
"""A change of the message: ("shift", places), ("reverse", 0) of each word, or ("swap", 0) of dots and dashes."""


def _draw(rng: random.Random, level: int) -> Question:
    """Level 1 is one plain word, 2 a shifted one, 3 two words changed in two or three ways."""
    words = ["".join(invented_names(rng, 2)).upper() for _ in range(2 if level == 3 else 1)]
    message = " ".join(word[: rng.randint(4, 6)] for word in words)
    shift = ("shift", rng.randint(1, 25))
    steps: list[Step] = [] if level == 1 else [shift]
    if level == 3:
        steps += rng.sample([("reverse", 0), ("swap", 0)], rng.choice((1, 2)))
        steps.sort(key=lambda step: step[0] == "swap")
    code, encodes = encode(message, steps), rng.random() < 0.5
    told = "".join(f"\n{number}. {_told(step)}" for number, step in enumerate(steps, start=1))
    after = f", with these changes in turn:{told}" if steps else "."
    how = f"International Morse code, a space between letters and / between words{after}"
    if encodes:
        text = f"Write {message} in Morse code.\n{how}\n\n{FORM} the code alone."
    else:
        text = f"What message was written as {code}\n{how}\n\n{FORM} the message as it was first, alone."
    shown = [len(word.split()) for word in code.split(" / ")]
    return Question(text, code if encodes else message, message, facts={"encodes": encodes, "letters": shown})


def encode(message: str, steps: Sequence[Step]) -> str:
    """The Morse code of words in capitals, changed as the steps say."""
    swaps = False
    for step, places in steps:
        if step == "shift":
            message = "".join(
                chr((ord(letter) - 65 + places) % 26 + 65) if letter != " " else " " for letter in message
            )
        elif step == "reverse":
            message = " ".join(word[::-1] for word in message.split())
        else:
            swaps = not swaps
    code = " / ".join(" ".join(CODE[letter] for letter in word) for word in message.split())
    return code.translate(str.maketrans(".-", "-.")) if swaps else code


def _told(step: Step) -> str:
    name, places = step
    return {
        "shift": f"Each letter moves {places} place{'s' * (places > 1)} forward in the alphabet; after Z comes A.",
        "reverse": "Each word is written backwards.",
        "swap": "In the code, dots become dashes and dashes become dots.",
    }[name]


def _judge(text: str, payload: Mapping[str, Any]) -> bool | None:
    if len(text) > _MOST_CHARACTERS:
        return None
    if not payload["encodes"]:
        words = text.removesuffix(".").split()
        return (
            " ".join(words).upper() == payload["answer"]
            if all(re.fullmatch("[A-Za-z]+", word) for word in words)
            else None
        )
    coded = text.translate(_SIGNS)
    if not re.fullmatch(r"[-./\s]+", coded):
        return None
    return [word.split() for word in coded.split("/")] == [word.split() for word in payload["answer"].split("/")]


def _guess(payload: Mapping[str, Any], rng: random.Random) -> str:
    words = ["".join(rng.choices(string.ascii_uppercase, k=count)) for count in payload["letters"]]
    return encode(" ".join(words), ()) if payload["encodes"] else " ".join(words)


KIND = Kind(_draw, _judge, _guess, full_stop=False)
