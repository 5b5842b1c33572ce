"""The words that are read in a letter; a word that is none of them is not understood."""

from __future__ import annotations

from openk2.gym.writing.things import ATTRIBUTE_OF, ATTRIBUTES, NOUNS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PRAISE = _words(
    "great good excellent wonderful nice lovely fantastic amazing awesome brilliant beautiful perfect superb splendid "
    "delightful terrific smart clever interesting thoughtful fine fabulous marvellous outstanding impressive"
)
"""Praise of the question, of who asks, or of a thing: none of it was shown."""

ABOUT_ITSELF = _words(
    "reply answer answers answered response text letter message note facts fact words complete completed correct "
    "correctly accurate concise short brief clear clearly polite helpful asked requested request requirements "
    "instructions instruction rules listed included wrote written question task kept sure ensured checked because"
)
"""Words of a sentence that explains or defends the letter itself."""

GRAMMAR = _words(
    "a an the it its it's this that is are has have had having with of at on in for and but also both while each as by "
    "you your we our us i will be was were costs cost comes came arrived got number there here"
)
COURTESY = _words(
    "dear hello hi hey thank thanks many much very grateful sorry apologies apologise apologize apology regret welcome see "
    "soon please join come enjoy kind regards all best yours sincerely again once more say me let so to then"
)
CHOOSING = _words("take choose pick recommend recommended suggest choice")
GRATITUDE = _words("thank thanks grateful")
REGRET = _words("sorry apologies apologise apologize apology regret")
ENDS = {"lower": min, "lowest": min, "higher": max, "highest": max}
MARKS = frozenset(".,:;!-–—()\n")
READ = GRAMMAR | COURTESY | CHOOSING | NOUNS | ATTRIBUTES | ATTRIBUTE_OF.keys() | ENDS.keys() | {"cheaper", "cheapest"}

BEFORE_A_VALUE = _words("is was has have with and at on in the a an of are costs cost its for both will be")
BEFORE_A_VALUE |= ATTRIBUTES | NOUNS | ATTRIBUTE_OF.keys() | MARKS | {"number"}
PRICED = {"costs": "price", "cost": "price"}
