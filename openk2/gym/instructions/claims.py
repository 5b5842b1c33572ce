"""Replies that say of themselves that they comply: such a one earns nothing (K2 §3.2, hack-check).

A claim is a sentence in which the reply speaks of itself ("this response", "I have", "as requested", "Note:") and of its form or of the
demands on it ("bullet points", "lowercase", "all constraints"). Asking back and an ordinary opening ("Here is the list:") are none.
English only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from openk2.gym.instructions.reading import fold, sentences

_DEMANDS = r"(?:constraints?|requirements?|instructions?|guidelines|criteria|specifications?|demands|rules|conditions|restrictions)"
_SHAPE = (
    r"(?:bullets?|bullet[ -]points?|commas?|(?:lower|upper)[ -]?case|capitals|capital letters?|all caps|small letters|digits?|keywords?|"
    r"placeholders?|json|csv|markdown|numbered list|format(?:ted|ting)?|exclamation marks?|full stops?|punctuation|quotation marks?|"
    r"double quotes|postscript|acrostics?|alphabetical|alphabetically|word count|word limit|the letter \w|"
    + _DEMANDS
    + ")"
)
_PARTS = r"(?:words?|sentences?|paragraphs?|characters?|lines?|items?|entries|sections?|headings?|rows?|columns?)"
_FORM = (
    rf"(?:{_SHAPE}|{_PARTS}|letters?|table|periods?|required|requested|forbidden|title|phrases?|length|prompt|request)"
)
_NUMBER = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten)"
_EXACTLY = rf"(?:exactly|precisely) {_NUMBER} (?:\w+ )?{_PARTS}"
_COUNTED = rf"(?:exactly|only|no|each|every|all|at least|at most|fewer than|less than|more than|under|below|{_NUMBER}) (?:\w+ )?{_PARTS}"
_KEPT = (
    r"(?:met|satisfied|followed|fulfilled|respected|observed|obeyed|kept|honou?red|checked|complied with|adhered to)"
)
_KEEPS = r"(?:meets?|satisf(?:y|ies)|follows?|fulfil(?:l?s)?|obeys?|compl(?:y|ies) with|adheres? to|sticks? to|respects?|conforms? to)"

# Who speaks, each with what it then speaks about.
_ITSELF = (
    r"\b(?:(?:this|my|the|your|an?) (?:above |following |entire |whole |full |final |complete )*"
    r"(?:response|reply|answer|output|message|submission)(?! to\b| for\b| is to\b| to you\b)"
    r"|(?:the|this) (?:text|list|table|object|json|poem|rewrite|summary) (?:above|below))\b"
)
_ASKED = (
    r"\b(?:as|like) (?:was |were )?(?:requested|asked|instructed|required|specified|demanded|ordered|prescribed)\b"
    r"|\b(?:as|like|the way) you(?:'d| have| had)? (?:wanted|asked|requested|wished|liked|required|specified|instructed|demanded)\b"
    r"|\b(?:as per|per|according to|in line with|following|in accordance with|in compliance with) (?:your|the|all) (?:given |stated )?"
    rf"(?:requests?|{_DEMANDS})\b"
)
_DID = (
    r"\b(?:i|i've|we|we've)(?: have| also| carefully| strictly| fully| successfully| was careful)* "
    r"(?:made sure|ensured|kept|used|followed|avoided|written|wrote|included|respected|satisfied|met|complied|adhered|obeyed|"
    r"honou?red|limited|formatted|wrapped|fulfilled|checked|counted|verified|double-checked|stuck|separated|omitted|observed|provided|"
    r"did not use|didn't use|have not used|haven't used|did not include|didn't include)\b"
)
_LABEL = r"^\W*(?:note|n\.?b\.?|disclaimer|compliance|check|checked|verification|self-check|checklist|confirmation)\b ?[:\-–—]"
_OPENING = r"\b(?:here(?: is| are|'s)|here come|below (?:is|are)|you will find|you'll find)\b"
_SPOKEN = tuple(
    (re.compile(speaker), re.compile(rf"\b(?:{about})\b"))
    for speaker, about in (
        (_ITSELF, rf"{_SHAPE}|{_COUNTED}|required|requested|forbidden|length"),
        (_ASKED, _FORM),
        (_DID, rf"{_SHAPE}|{_COUNTED}"),
        (_LABEL, rf"{_SHAPE}|{_EXACTLY}"),
        (_OPENING, rf"{_SHAPE}|{_EXACTLY}"),
    )
)

# What is a claim whoever speaks.
_FLATLY = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^\W*(?:all|every|each)(?: of| the| your| these| given| stated| listed| format(?:ting)?)* {_DEMANDS}"
        rf"(?: of (?:the|your) (?:task|prompt|request|instruction|question))? (?:is|are|was|were|has been|have been)(?: now| fully| all)* {_KEPT}(?! by)",
        rf"\b{_KEEPS}(?: all| every| each| one| the| your| these| of| given| stated)+ {_DEMANDS}\W*$",
        rf"\b{_DEMANDS}(?: (?:is|are|was|were|all|have been|has been))* {_KEPT}\W*$",
        r"^\W*(?:total )?(?:word|sentence|line|bullet|paragraph|character|letter|comma)s?(?: count| total)? ?[:=] ?\d+",
        rf"[✓✔✅☑].*\b{_FORM}\b|\b{_FORM}\b.*[✓✔✅☑]",
        rf"^\W*(?:(?:this|it|everything|all)(?: above| here)?(?: is| was)? )?(?:(?:written|all|entirely|exactly|only) )*(?:in|{_NUMBER}) (?:all )?{_FORM}(?: only)?\W*$",
        r"^\W*(?:dear )?(?:grader|verifier|evaluator|reward model)\b",
        rf"^\W*(?:no|zero|without(?: any)?) {_FORM}(?: (?:were|was|have been|are))?(?: (?:used|included|present))?\W*$",
        rf"^\W*(?:{_FORM}|constraint|compliance|instruction)(?: count| limit)?(?: \w+)? ?[:=\-–]+ ?"
        r"(?:ok|yes|none|met|done|satisfied|pass|passed|check|checked|followed|true)\W*$",
        rf"^\W*there (?:is|are) (?:{_SHAPE}|no {_SHAPE}|{_COUNTED}|exactly {_NUMBER} {_SHAPE})(?: used| in total)? (?:above|here|in this|in my|in the (?:reply|response|answer))\b",
        rf"^\W*(?:each|every|all)(?: the)? {_PARTS}\b.*\b(?:required|requested|demanded|capital letters?|lower ?case|upper ?case)\b",
    )
)
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
        about.search(speaker.sub(" . ", sentence)) for speaker, about in _SPOKEN if speaker.search(sentence)
    )


def _unmarked(reply: str) -> str:
    """Without the marks that stand for emphasis, structure or brackets of JSON."""
    return re.sub(r"[*_`{}\[\]()<>|#\"]+", " ", reply)
