"""Demands on beginning, end, length and what stands around a reply."""

from __future__ import annotations

import random

from openk2.gym.instructions.bases import Base
from openk2.gym.instructions.demand import Demand, adding, maker, setting
from openk2.gym.instructions.draft import FILLER

_OPENINGS = ("Good evening", "Dear reader", "Here goes", "Hello there", "With pleasure")
_ENDINGS = ("Kind regards", "Until next time", "Yours truly", "So long and farewell", "Stay well")
_FIRST = ("Listen", "Behold", "Welcome", "Greetings", "Look")
_LAST = ("goodbye", "farewell", "cheers", "thanks", "amen")
_PROVERBS = (
    "The river keeps its own time.", "A quiet house hears the rain.", "Slow feet still reach the hill.",
    "Morning light finds every window.", "The old bridge remembers each step.",
)  # fmt: skip


def _starts_with(rng: random.Random, base: Base) -> Demand:
    phrase = rng.choice(_OPENINGS)
    say = rng.choice((f'Begin with the words "{phrase}".', f'The reply opens with "{phrase}".'))
    return Demand({"check": "starts_with", "phrase": phrase}, say, setting(opening=phrase + "!"))


def _first_word(rng: random.Random, base: Base) -> Demand:
    word = rng.choice(_FIRST)
    return Demand(
        {"check": "first_word", "word": word}, f'Your first word has to be "{word}".', setting(opening=word + "!")
    )


def _title(rng: random.Random, base: Base) -> Demand:
    say = "Give it a title in double angular brackets, such as <<title>>."
    return Demand({"check": "title"}, say, setting(opening="<<What there is>>"))


def _repeats_first(rng: random.Random, base: Base) -> Demand:
    text = rng.choice(_PROVERBS)
    say = f'First write this sentence word for word, with nothing before it: "{text}" Then do what is asked.'
    return Demand({"check": "repeats_first", "text": text}, say, setting(opening=text))


def _ends_with(rng: random.Random, base: Base) -> Demand:
    phrase = rng.choice(_ENDINGS)
    say = rng.choice((f'The very last words have to be "{phrase}".', f'Close with "{phrase}" and nothing behind it.'))
    return Demand({"check": "ends_with", "phrase": phrase}, say, setting(closing=phrase))


def _last_word(rng: random.Random, base: Base) -> Demand:
    word = rng.choice(_LAST)
    return Demand(
        {"check": "last_word", "word": word},
        f'Your last word has to be "{word}".',
        setting(closing=f"And {word}!"),
    )


def _circular(rng: random.Random, base: Base) -> Demand:
    word = rng.choice(_FIRST)
    say = "Let the last word be the same as the first."
    return Demand({"check": "circular"}, say, setting(opening=word + "!", closing=f"And so: {word.lower()}!"))


def _postscript(rng: random.Random, base: Base) -> Demand:
    marker = rng.choice(("P.S.", "P.P.S."))
    say = f"Add a postscript at the end that begins with {marker}"
    return Demand({"check": "postscript", "marker": marker}, say, setting(closing=f"{marker} {rng.choice(FILLER)}!"))


def _at_least_words(rng: random.Random, base: Base) -> Demand:
    more = rng.randint(10, 50)
    number = more + sum(len(statement.split()) for statement in base.statements)
    said, gained = [], 0
    for sentence in rng.sample(FILLER, len(FILLER)):
        if gained >= more:
            break
        said.append(sentence)
        gained += len(sentence.split())
    spec = {"check": "num_words", "relation": "at least", "number": number}
    return Demand(spec, f"Write at least {number} words.", adding(*said))


def _at_most_words(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(4, 14) + sum(len(statement.split()) for statement in base.statements)
    spec = {"check": "num_words", "relation": "at most", "number": number}
    return Demand(spec, f"Write at most {number} words.", setting())


def _at_most_characters(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(20, 60) + sum(len(statement) + 2 for statement in base.statements)
    spec = {"check": "num_characters", "relation": "less than", "number": number}
    return Demand(spec, f"Stay below {number} characters, blanks included.", setting())


def _num_sentences(rng: random.Random, base: Base) -> Demand:
    more = rng.randint(1, 3)
    number = len(base.statements) + more
    spec = {"check": "num_sentences", "relation": "exactly", "number": number}
    return Demand(spec, f"Write exactly {number} sentences.", adding(*rng.sample(FILLER, more)))


def _sentence_length(rng: random.Random, base: Base) -> Demand:
    number = rng.randint(8, 10)
    spec = {"check": "sentence_length", "relation": "at most", "number": number}
    return Demand(spec, f"No sentence may have more than {number} words.", setting())


def _wrapped(rng: random.Random, base: Base) -> Demand:
    opening, closing = rng.choice((('"', '"'), ("(", ")"), ("[[", "]]"), ("~~~", "~~~")))
    say = f"Begin the whole reply with {opening} and end it with {closing}, as its first and last marks."
    spec = {"check": "wrapped", "opening": opening, "closing": closing}
    return Demand(spec, say, setting(wrap=lambda text: opening + text + closing))


def _tagged(rng: random.Random, base: Base) -> Demand:
    tag = rng.choice(("reply", "note", "answer", "report"))
    say = f"Put the whole reply between <{tag}> and </{tag}>."
    return Demand({"check": "tagged", "tag": tag}, say, setting(wrap=lambda text: f"<{tag}>\n{text}\n</{tag}>"))


def _code_block(rng: random.Random, base: Base) -> Demand:
    language = rng.choice(("", "text", "markdown"))
    named = f' marked "{language}"' if language else " without a language"
    say = f"Put the whole reply into one fenced code block (three backticks){named}, with nothing around it."
    wrap = setting(wrap=lambda text: f"```{language}\n{text}\n```")
    return Demand({"check": "code_block", "language": language}, say, wrap)


MAKERS = {
    "starts_with": maker(_starts_with, "opening"),
    "first_word": maker(_first_word, "opening"),
    "title": maker(_title, "opening"),
    "repeats_first": maker(_repeats_first, "opening"),
    "ends_with": maker(_ends_with, "closing"),
    "last_word": maker(_last_word, "closing"),
    "circular": maker(_circular, "opening", "closing"),
    "postscript": maker(_postscript, "closing"),
    "at_least_words": maker(_at_least_words, "length", uses=("extra",)),
    "at_most_words": maker(_at_most_words, "length", "extra", "opening", "closing"),
    "at_most_characters": maker(_at_most_characters, "length", "extra", "opening", "closing"),
    "num_sentences": maker(_num_sentences, "length", "extra", "opening", "closing"),
    "sentence_length": maker(_sentence_length),
    "wrapped": maker(_wrapped, "wrap", "opening", "closing"),
    "tagged": maker(_tagged, "wrap", "opening", "closing", "case"),
    "code_block": maker(_code_block, "wrap", "opening", "closing", "case"),
}
