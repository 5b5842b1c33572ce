"""Titles, sections, emphasis, tables and other shapes on the page."""

from __future__ import annotations

import itertools
import re

from openk2.gym.instructions.check import Count, Number, Phrase, Phrases, Relation, compare, group
from openk2.gym.instructions.reading import WORD, bullets, fold, lines, words

_TITLE = re.compile(r"<<([^<>\n]+)>>")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]*[^\[\]\s][^\[\]\n]*\]")
_STRONG = re.compile(r"\*\*(?=[^\s*])[^*\n]+\*\*")
_EMPHASIS = re.compile(r"\*(?=[^\s*])[^*\n]*\*")
_HEADING = re.compile(r"(?m)^(#{1,6})[ \t]+\S")
_FENCE = re.compile(r"(?m)^```([\w+-]*)[ \t]*$")
_RULE = re.compile(r":?-{2,}:?")


def title(reply: str) -> bool:
    """A title in double angular brackets, with a word in it."""
    return any(WORD.search(inside) for inside in _TITLE.findall(reply))


def num_placeholders(reply: str, relation: Relation, number: Number) -> bool:
    """So many placeholders such as [address]."""
    return compare(len(_PLACEHOLDER.findall(reply)), relation, number)


def num_highlights(reply: str, relation: Relation, number: Number) -> bool:
    """So many passages *highlighted* or **highlighted**; the stars of bullet points are none."""
    without = "\n".join(re.sub(r"^\s*\*\s+", "", line) for line in reply.split("\n"))
    strong = len(_STRONG.findall(without))
    return compare(strong + len(_EMPHASIS.findall(_STRONG.sub(" ", without))), relation, number)


def num_sections(reply: str, marker: Phrase, relation: Relation, number: Number) -> bool:
    """So many sections, each opened by a line that begins with the marker and the next number, beginning with 1, or with 1 again.

    Every section has words of its own behind its number.
    """
    opened = re.compile(rf"(?im)^[^\w\n]*{re.escape(marker)}[ \t]*(\d{{1,4}})(?!\d)")
    found = list(opened.finditer(reply))
    numbers = [int(match[1]) for match in found]
    in_order = all(number in (1, before + 1) for before, number in itertools.pairwise([0, *numbers]))
    ends = [*(match.start() for match in found[1:]), len(reply)]
    filled = all(words(reply[match.end() : end]) for match, end in zip(found, ends, strict=False))
    return in_order and filled and compare(len(found), relation, number)


def two_responses(reply: str, divider: Phrase = "******") -> bool:
    """Two different parts with the divider between them."""
    parts = reply.split(divider)
    if len(parts) > 2 and not parts[0].strip():
        parts = parts[1:]
    if len(parts) > 2 and not parts[-1].strip():
        parts = parts[:-1]
    return len(parts) == 2 and all(words(part) for part in parts) and fold(parts[0]) != fold(parts[1])


def one_of(reply: str, options: Phrases) -> bool:
    """Exactly one of the phrases is there, in any case."""
    text = fold(reply)
    return sum(fold(option) in text for option in options) == 1


def headings(reply: str, level: Count, number: Count) -> bool:
    """Exactly so many Markdown headings of a level, and none of another."""
    found = [len(marks) for marks in _HEADING.findall(reply)]
    return found == [level] * number


def table(reply: str, header: Phrases, rows: Count) -> bool:
    """One Markdown table: this header, the line of dashes, then exactly so many rows of as many cells, none empty."""
    found = [line for line in lines(reply) if line.startswith("|") and line.endswith("|") and len(line) > 1]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in found]
    if len(cells) != rows + 2 or [fold(cell) for cell in cells[0]] != [fold(cell) for cell in header]:
        return False
    ruled = all(_RULE.fullmatch(cell) for cell in cells[1])
    return ruled and all(len(row) == len(header) for row in cells) and all(all(row) for row in cells[2:])


def code_block(reply: str, language: str = "") -> bool:
    """The reply is one fenced code block of a language (empty: none named), with something in it and nothing around it."""
    text = reply.strip()
    fences = _FENCE.findall(text)
    inside = text.removeprefix("```" + language).removesuffix("```")
    return fences == [language, ""] and text.startswith("```") and text.endswith("\n```") and bool(inside.strip())


def key_lines(reply: str, keys: Phrases) -> bool:
    """Exactly one line "key: something" for each key, in their order, and no other line."""
    found = [line.partition(":") for line in lines(reply)]
    return [fold(key) for key, _, _ in found] == [fold(key) for key in keys] and all(
        mark and said.strip() for _, mark, said in found
    )


def acrostic(reply: str, word: Phrase) -> bool:
    """The first letters of the lines spell the word, in any case; list marks do not count."""
    firsts = [next((character for character in line if character.isalpha()), "") for line in lines(reply)]
    return "".join(firsts).casefold() == word.casefold()


def bullets_then_words(reply: str, number: Count) -> bool:
    """Exactly so many bullet points, then at least one line that is none, and none before them."""
    found = lines(reply)
    marked = [bool(bullets(line)) for line in found]
    return len(found) > number and all(marked[:number]) and not any(marked[number:])


CHECKS = group(
    title,
    num_placeholders,
    num_highlights,
    num_sections,
    two_responses,
    one_of,
    headings,
    table,
    code_block,
    key_lines,
    acrostic,
    bullets_then_words,
)
