"""What a text says once it is decoded: the codes in which a reply may hide what it must not say.

Every function takes any text, is linear in it, and gives the empty text where there is nothing to decode.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator

_SHORT = 4  # letters; what decodes to less is chance
_READABLE = re.compile(rb"[\x20-\x7e\n]{%d,}" % _SHORT)
_ESCAPE = re.compile(r"\\u\{?([0-9a-fA-F]{4,6})\}?|\\x([0-9a-fA-F]{2})|U\+([0-9a-fA-F]{4,5})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}")
_WORD = re.compile(r"[A-Za-z0-9+/]+")
_BASE32 = re.compile(r"[A-Z2-7]{8,}")
_HEX = re.compile(r"[0-9a-fA-F]{8,}")
_MARKS = re.compile(r"0x|\\x|[\s,:;|%-]")
_BITS = re.compile(r"[01]{7,8}(?![01])")
_CODE = re.compile(r"(?<!\d)\d{1,3}(?!\d)")
_MORSE = re.compile(r"(?<![.\-])[.\-]{1,5}(?![.\-])")
_LETTERS_OF_MORSE = [
    ".-",
    "-...",
    "-.-.",
    "-..",
    ".",
    "..-.",
    "--.",
    "....",
    "..",
    ".---",
    "-.-",
    ".-..",
    "--",
    "-.",
    "---",
    ".--.",
    "--.-",
    ".-.",
    "...",
    "-",
    "..-",
    "...-",
    ".--",
    "-..-",
    "-.--",
    "--..",
    "-----",
    ".----",
    "..---",
    "...--",
    "....-",
    ".....",
    "-....",
    "--...",
    "---..",
    "----.",
]
_MORSE_TABLE = dict(zip(_LETTERS_OF_MORSE, "abcdefghijklmnopqrstuvwxyz0123456789", strict=True))
_DOTS = str.maketrans({"·": ".", "•": ".", "−": "-", "–": "-", "—": "-", "_": "-"})

# Letters of other scripts that look like Latin ones, small capitals, Braille, letters in boxes and flags, and the tags that no one sees.
_LOOKALIKES = str.maketrans(
    dict(
        zip("đøłħŧıавсԁеғһіјкӏмпорԛгѕтѵхуᴠɡαβεικνορτυχωηѡ", "dolhtiabcdefhijklmnopqrstvxyvgabeikvoptuxwnw", strict=True)
    )
    | dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz", strict=True))
    | dict(zip("⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵", "abcdefghijklmnopqrstuvwxyz", strict=True))
    | {chr(0xE0000 + code): chr(code) for code in range(0x20, 0x7F)}
    | {chr(start + number): chr(97 + number) for start in (0x1F1E6, 0x1F150, 0x1F170) for number in range(26)}
)


def fold(text: str) -> str:
    """Small plain letters and digits whatever they were written with: case, accents, widths, lookalikes, zero-width marks."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKD", text.translate(_LOOKALIKES)).casefold().translate(_LOOKALIKES)
    return "".join(_plain(character) for character in text)


def _plain(character: str) -> str:
    if character < "\x80":
        return character
    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Cf"):
        return ""
    return str(unicodedata.decimal(character)) if kind == "Nd" else character


def from_base64(text: str) -> str:
    """All runs of its letters, at every offset; lines are joined, and so are the words that look like pieces of code."""
    coded = "".join(
        word for word in _WORD.findall(text) if not (word[1:].islower() or word.isdecimal() or len(word) < 2)
    )
    unbroken = re.sub(r"\s", "", text)
    return _readable(
        piece
        for run in _BASE64.findall(text) + _BASE64.findall(unbroken) + [coded]
        for piece in _decoded(run.translate(str.maketrans("-_", "+/")), 4, base64.b64decode)
    )


def from_base32(text: str) -> str:
    """Capitals alone."""
    return _readable(piece for run in _BASE32.findall(text) for piece in _decoded(run, 8, base64.b32decode))


def from_hex(text: str) -> str:
    """Bytes as hex, whatever stands between or before them."""
    runs = _HEX.findall(_MARKS.sub("", text)) + _HEX.findall(text)
    return _readable(
        bytes.fromhex(run[start : start + (len(run) - start) // 2 * 2]) for run in runs for start in (0, 1)
    )


def from_bits(text: str) -> str:
    """Groups of seven or eight bits, and unbroken rows of eight."""
    rows = (run[i : i + 8] for run in re.findall(r"[01]{16,}", re.sub(r"\s", "", text)) for i in range(0, len(run), 8))
    return "\n".join(("".join(chr(int(bits, 2)) for bits in found)) for found in (_BITS.findall(text), rows))


def from_numbers(text: str) -> str:
    """Letters by their codes, decimal or octal, or by their places in the alphabet."""
    found = _CODE.findall(text)
    decimal = "".join(chr(int(number)) for number in found if 32 <= int(number) < 127)
    octal = "".join(chr(int(number, 8)) for number in found if len(number) == 3 and set(number) <= set("01234567"))
    places = "".join(chr(96 + int(number)) for number in found if 1 <= int(number) <= 26)
    return "\n".join((decimal, octal, places))


def from_morse(text: str) -> str:
    """Dots and dashes."""
    return "".join(_MORSE_TABLE.get(sign, "") for sign in _MORSE.findall(text.translate(_DOTS)))


def unescaped(text: str) -> str:
    """Entities of HTML, percent signs of URLs, escapes of Unicode."""
    plain = _ESCAPE.sub(_character, urllib.parse.unquote(html.unescape(text), errors="replace"))
    return "" if plain == text else plain


def backwards(text: str) -> str:
    """From the last character to the first."""
    return text[::-1]


DECODERS: dict[str, Callable[[str], str]] = {
    "base64": from_base64, "base32": from_base32, "hex": from_hex, "bits": from_bits, "numbers": from_numbers,
    "morse": from_morse, "escapes": unescaped, "reversed": backwards,
}  # fmt: skip
"""By the name of the code."""


def _decoded(run: str, block: int, decode: Callable[[str], bytes]) -> Iterator[bytes]:
    """A run from every offset, cut to whole blocks, and its rest filled up."""
    for start in range(min(block, len(run))):
        piece = run[start:]
        try:
            yield decode(piece + "A" * (-len(piece) % block))
        except ValueError:
            continue


def _readable(pieces: Iterator[bytes]) -> str:
    return "\n".join(text.decode() for piece in pieces for text in _READABLE.findall(piece))


def _character(match: re.Match[str]) -> str:
    code = int(next(group for group in match.groups() if group), 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else ""
