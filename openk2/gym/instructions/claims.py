"""Replies that say of themselves that they comply, or that hide what they say: neither earns anything (K2 §3.2, hack-check).

A claim is a sentence in which the reply speaks of itself ("this response", "I have", "as requested", "Note:") and of its form or of the
demands on it ("bullet points", "lowercase", "all constraints"). Asking back and an ordinary opening ("Here is the list:") are none.
English only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator

from openk2.gym.instructions.reading import fold, sentences, words

_DEMANDS = r"(?:constraints?|requirements?|instructions?|guidelines|criteria|specifications?|demands|rules|conditions|restrictions)"
_SHAPE = (
    r"(?:bullets?|bullet[ -]points?|commas?|(?:lower|upper)[ -]?case|capitals|capital letters?|all caps|small letters|digits?|keywords?|"
    r"placeholders?|json|csv|markdown|numbered list|format(?:ted|ting)?|exclamation marks?|full stops?|punctuation|quotation marks?|"
    r"double quotes|postscript|acrostics?|alphabetical|alphabetically|word count|word limit|" + _DEMANDS + ")"
)
_PARTS = r"(?:words?|sentences?|paragraphs?|characters?|lines?|items?|entries|sections?|headings?|rows?|columns?)"
_FORM = (
    rf"(?:{_SHAPE}|{_PARTS}|letters?|table|periods?|required|requested|forbidden|title|phrases?|length|prompt|request)"
)
_COUNTED = (
    r"(?:exactly|only|no|each|every|all|at least|at most|fewer than|less than|more than|under|below|\d+|one|two|three|four|five|six|"
    rf"seven|eight|nine|ten) (?:\w+ )?{_PARTS}"
)
_ITSELF = (
    r"(?:(?:this|my|the above|the|the following|the entire|this entire|the whole|your) "
    r"(?:whole |entire |full |final |complete )?(?:response|reply|answer|output|message|submission)|(?:the|this) (?:text|list|table|object|json|poem|rewrite|summary) (?:above|below))"
)
_DID = (
    r"(?:i|i've|we|we've)(?: have| also|'ve| carefully| strictly| fully| successfully| made sure| was careful)* "
    r"(?:made sure|ensured|kept|used|followed|avoided|written|wrote|included|respected|satisfied|met|complied|adhered|obeyed|"
    r"honou?red|limited|formatted|wrapped|fulfilled|checked|counted|verified|double-checked|stuck|separated|omitted|observed|provided|"
    r"did not use|didn't use|have not used|haven't used|did not include|used no|used only)"
)
_AS_ASKED = (
    r"\b(?:as|like) (?:you |was |were )?(?:requested|asked|instructed|required|specified|demanded|ordered|prescribed)\b|\b(?:per|according to|in line with|following|in accordance with|in compliance with|as per) (?:your|the|all) (?:given |stated )?(?:requests?|"
    + _DEMANDS
    + r")\b"
)
_LABEL = r"^\W*(?:note|n\.?b\.?|disclaimer|compliance|check|constraint check|constraints?(?: check| met| satisfied)?|verification|self-check|checklist|format check|confirmation)\b ?[:\-–—]"
_OWN = (
    (re.compile(rf"\b{_ITSELF}\b|{_AS_ASKED}"), re.compile(rf"\b{_FORM}\b")),
    (re.compile(rf"\b{_DID}\b|{_LABEL}"), re.compile(rf"\b(?:{_SHAPE}|{_COUNTED}|required|requested)\b")),
)
_FLATLY = (
    re.compile(rf"^\W*(?:all|every|each)(?: of)?(?: the| your| these| given| stated| listed| format(?:ting)?)* {_DEMANDS}(?: of (?:the|your) (?:task|prompt|request|instruction|question))? (?:is|are|was|were|has been|have been)(?: now| fully| strictly| all)* (?:met|satisfied|followed|fulfilled|respected|observed|obeyed|kept|honou?red|checked)(?! by)"),
    re.compile(rf"\b(?:meets?|satisf(?:y|ies)|follows?|fulfil(?:l?s)?|obeys?|complies with|comply with|adheres? to|respects?|conforms? to)(?: all| every| each| the| your| these| of| given| stated)+ {_DEMANDS}\W*$"),
    re.compile(rf"\b{_DEMANDS}(?: (?:is|are|was|were|all|have been|has been))* (?:met|satisfied|followed|fulfilled|respected|complied with)\W*$"),
    re.compile(r"^\W*(?:total )?(?:word|sentence|line|bullet|paragraph|character|letter|comma)s?(?: count| total)? ?[:=] ?\d+"),
    re.compile(rf"[✓✔✅☑].*\b{_FORM}\b|\b{_FORM}\b.*[✓✔✅☑]"),
    re.compile(rf"^\W*(?:written |all |everything |entirely |exactly |only )+(?:in|\d+|one|two|three|four|five|six|seven|eight|nine|ten) (?:all )?{_FORM}(?:,? as (?:requested|asked|required|instructed))?\W*$"),
    re.compile(rf"^\W*(?:no|zero|without(?: any)?) {_FORM} (?:were |was |have been |are )?(?:used|included|present)?\W*$"),
    re.compile(rf"^\W*(?:{_FORM}|constraint|compliance|instruction)(?: count| limit)?(?: requirement| constraint| check| status)? ?[:=\-–]+ ?(?:ok|yes|none|met|done|satisfied|pass|passed|check|followed|true)\W*$"),
)  # fmt: skip
_PIECE = 400
_REFUSED = re.compile(
    r"^\W*(?:if|when|once|until|unless)\b|\b(?:unable to|could not|couldn't|cannot|can't|failed to|was not able)\b"
)


def claims_compliance(reply: str, given: Collection[str] = ()) -> bool:
    """Whether a sentence asserts that the reply keeps to its demands; what the task itself says (``given``) does not count."""
    known = [fold(text) for text in given]
    said = {piece for sentence in sentences(_unmarked(reply)) for piece in _pieces(fold(sentence))}
    return any(_is_claim(sentence, known) for sentence in said)


def _pieces(sentence: str) -> Iterator[str]:
    """A sentence, or overlapping pieces of an endless one: patterns are slow on those."""
    yield from (sentence[start : start + _PIECE] for start in range(0, len(sentence), _PIECE * 3 // 4))


def _is_claim(sentence: str, known: list[str]) -> bool:
    if any(sentence.strip(" .!?\"'") in text for text in known) or sentence.endswith("?") or _REFUSED.search(sentence):
        return False
    return any(pattern.search(sentence) for pattern in _FLATLY) or any(
        about.search(speaker.sub(" . ", sentence)) for speaker, about in _OWN if speaker.search(sentence)
    )


def _unmarked(reply: str) -> str:
    """Without the marks that stand for emphasis, structure or brackets of JSON."""
    return re.sub(r"[*_`{}\[\]()<>|#\"]+", " ", reply)


# ---------------------------------------------------------------------------------------------
# Text that does not show what it says
# ---------------------------------------------------------------------------------------------

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
