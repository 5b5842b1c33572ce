"""Which language a reply is in: its script, and within a script the commonest short words and letters of its own.

No detector of all languages: it tells the ones below from each other. A text in another language of the same script that shares
some of their short words may be taken for one of them; a text without a single word of the lists is of no language.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Literal

from openk2.gym.instructions.check import group
from openk2.gym.instructions.reading import words

Code = Literal[
    "ar", "bg", "bn", "de", "en", "es", "fa", "fi", "fr", "gu", "hi", "it", "kn",
    "ko", "mr", "ne", "pa", "pt", "ru", "sw", "ta", "te", "th", "ur", "vi",
]  # fmt: skip
_SHARE = 0.75  # of the letters are of the language's script


@dataclass(frozen=True, slots=True)
class Language:
    """Its script, as Unicode's names of characters begin; short words; letters that its neighbours do not use."""

    script: str
    words: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()


def _language(script: str, words: str = "", letters: str = "") -> Language:
    return Language(script, frozenset(words.split()), frozenset(letters))


LANGUAGES: dict[str, Language] = {
    "en": _language(
        "LATIN",
        "the and of to is in it you that was for are with as i be have this from or had by not but what all were we "
        "when your can there an each which she do how their if will has his her my our they at on would could should "
        "a me him them its so about than then who been no yes please here where why let am did does may",
    ),
    "de": _language(
        "LATIN",
        "der die das und ist nicht ein eine ich zu den mit von für auf sie es im dem wir auch sich als wie haben hat "
        "aber oder wenn sind werden wird bei einen einer eines dass ihr ihre unser kann uns du mein zum zur nur noch",
        "ßäö",
    ),
    "fr": _language(
        "LATIN",
        "le la les et est un une des de du que qui dans pour pas sur avec nous vous je il elle ce cette sont au aux "
        "mais ou où plus par ne se sa son ses leur être été à",
        "çèœùûîêë",
    ),
    "es": _language(
        "LATIN",
        "el la los las y es un una de del que en por para con no se su al lo como más pero sus le ya este esta está "
        "son muy también fue nos hay porque yo tú mi",
        "ñ¿¡",
    ),
    "it": _language(
        "LATIN",
        "il lo la gli le di che è e un una per con non si del della dei delle nel nella sono ma come anche più questo "
        "questa ha ho mi ti ci al alla o da dal se noi loro essere",
    ),
    "pt": _language(
        "LATIN",
        "o a os as e é um uma de do da dos das que em no na para por com não se mais como mas ao sua seu são você eu "
        "isso esta está foi nos pela pelo também muito",
        "ãõ",
    ),
    "fi": _language(
        "LATIN",
        "ja on ei että se hän ovat oli mutta kun niin kuin myös tai joka jos ole minä sinä me te he tämä siitä sen "
        "hänen voi vain mitä kanssa olen olla sitä nyt",
        "äö",
    ),
    "sw": _language(
        "LATIN",
        "na ya wa ni kwa katika za la cha kuwa hii hiyo yake yangu wake wangu sisi yeye mimi wewe lakini kama kila "
        "sana pia au hakuna ambayo vya hapa huyo watu mtu kwamba si bila ili zaidi moja",
    ),
    "vi": _language(
        "LATIN",
        "và là của có không một những các cho được trong với này người tôi bạn để khi đã từ như đó ra vào rất",
        "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    ),
    "ru": _language("CYRILLIC", "и в не на что с он как это по но из у за то все она так его к для мы вы я от о", "ыэё"),
    "bg": _language("CYRILLIC", "и в не на че с той като това по но от за да се е са си ще ги тя му ние вие аз до към при"),
    "ar": _language("ARABIC", "في من على أن إلى هذا التي الذي كان لا ما عن هو هي مع كل لم قد و يا هذه ذلك أو إن", "ةىإأؤ"),
    "fa": _language("ARABIC", "و در به از که این را با است برای آن یک می شود ها تا بر هم من ما شما اما یا بود نیست", "ژ"),
    "ur": _language("ARABIC", "کے میں کی ہے اور سے کا کو پر نے یہ کہ ہیں اس بھی ایک نہیں تھا وہ ہم آپ جو تو کر", "ٹڈڑےںھہ"),
    "hi": _language("DEVANAGARI", "के में की है और से का को पर ने यह कि हैं इस भी एक नहीं था वह हम आप जो तो कर ये मैं हो लिए अपने"),
    "mr": _language("DEVANAGARI", "आणि आहे च्या या मी तो ती ते हे आम्ही तुम्ही नाही एक होता होते आहेत असे पण मध्ये साठी की तर करा केले ला", "ळ"),
    "ne": _language("DEVANAGARI", "र छ को मा हो लाई यो पनि छन् गर्न भएको म हामी तपाईं तर एक गर्ने थियो लागि यस का ले बाट हुन्छ भने"),
    "bn": _language("BENGALI"),
    "gu": _language("GUJARATI"),
    "kn": _language("KANNADA"),
    "ko": _language("HANGUL"),
    "pa": _language("GURMUKHI"),
    "ta": _language("TAMIL"),
    "te": _language("TELUGU"),
    "th": _language("THAI"),
}  # fmt: skip


def language(reply: str, language: Code) -> bool:
    """Most letters are of the language's script, and of the languages of that script it is the one whose words occur most."""
    return language_of(reply) == language


def uppercase_english(reply: str) -> bool:
    """English without a small letter."""
    return reply.isupper() and language_of(reply) == "en"


def lowercase_english(reply: str) -> bool:
    """English without a capital."""
    return reply.islower() and language_of(reply) == "en"


def language_of(text: str) -> str | None:
    """The language of a text by its code; None for one that is not in the list, or that cannot be told."""
    text = unicodedata.normalize("NFC", text)
    scripts = Counter(_script(character) for character in text if character.isalpha())
    if not scripts:
        return None
    (script, most), *_ = scripts.most_common(1)
    peers = {code: kind for code, kind in LANGUAGES.items() if kind.script == script}
    if most < _SHARE * scripts.total() or not peers:
        return None
    if len(peers) == 1:
        return next(iter(peers))
    used = Counter(word.casefold() for word in words(text))
    hits = {code: _hits(used, kind) for code, kind in peers.items()}
    best = max(hits.values())
    leading = [code for code, found in hits.items() if found == best]
    return leading[0] if best > 0 and len(leading) == 1 else None


def _hits(used: Counter[str], kind: Language) -> int:
    return sum(
        times * ((word in kind.words) + any(character in kind.letters for character in word))
        for word, times in used.items()
    )


@cache
def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


CHECKS = group(language, uppercase_english, lowercase_english)
