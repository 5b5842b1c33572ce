"""Demands on how the statements are laid out: lists, tables, paragraphs, data."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence

from openk2.gym.instructions.bases import Base
from openk2.gym.instructions.demand import WHOLE, Demand, maker, setting
from openk2.gym.instructions.draft import FILLER, Draft

_LEADS = {
    "a": "also", "b": "besides", "c": "clearly", "d": "doubtless", "e": "evidently", "g": "gladly", "h": "here", "i": "indeed",
    "k": "kindly", "l": "luckily", "m": "moreover", "n": "now", "o": "openly", "p": "plainly", "r": "really", "s": "surely",
    "t": "then", "u": "usually", "v": "visibly", "w": "well",
}  # fmt: skip
_ACROSTICS = {
    2: ("we", "so", "up", "it", "us"), 3: ("map", "sun", "tea", "hat", "ink", "sea"), 4: ("palm", "rose", "lamp", "wind", "boat", "gold"),
    5: ("stone", "bread", "cloud", "plant", "music", "night"), 6: ("garden", "silver", "winter", "planet", "bottle", "castle"),
    7: ("morning", "village", "leather"),
}  # fmt: skip


def _lines_with(mark: Callable[[int], str]) -> Callable[[Sequence[str]], str]:
    return lambda said: "\n".join(mark(place) + one for place, one in enumerate(said, 1))


def _bullets(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    say = rng.choice((
        f"Use exactly {number} bullet points in Markdown, each beginning with a dash or a star and a blank.",
        f"The reply has to hold exactly {number} Markdown bullet points.",
    ))  # fmt: skip
    return Demand({"check": "num_bullets", "number": number}, say, setting(arrange=_lines_with(lambda _: "- ")))


def _bullets_then_words(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    say = f"Begin with exactly {number} Markdown bullet points, then close with a line that is none."
    write = setting(arrange=_lines_with(lambda _: "- "), closing=rng.choice(FILLER) + ".")
    return Demand({"check": "bullets_then_words", "number": number}, say, write)


def _numbered(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    say = f'Use a list numbered from "1." to "{number}.".'
    return Demand({"check": "numbered_list", "number": number}, say, setting(arrange=_lines_with("{}. ".format)))


def _nested(rng: random.Random, base: Base) -> Demand:
    outer, inner = len(base.rows), rng.randint(1, 2)
    notes = rng.sample(FILLER, outer * inner)

    def arrange(said: Sequence[str]) -> str:
        below = iter(notes)
        return "\n".join("\n".join([f"- {one}", *(f"  - {next(below)}" for _ in range(inner))]) for one in said)

    say = (
        f"Use a nested list in Markdown: {outer} points, each with exactly {inner} indented point{'s' * (inner > 1)} below it; "
        "what is indented may be any remark."
    )
    return Demand({"check": "nested_list", "outer": outer, "inner": inner}, say, setting(arrange=arrange))


def _only_list(rng: random.Random, base: Base) -> Demand:
    say = rng.choice(
        ("Reply with a Markdown list and nothing else.", "Give a list in Markdown, with no word around it.")
    )
    return Demand({"check": "only_list"}, say, setting(arrange=_lines_with(lambda _: "* ")))


def _sorted(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)

    def write(draft: Draft) -> None:
        draft.statements.sort(key=str.casefold)
        draft.arrange = _lines_with(lambda _: "- ")

    say = f"Use a Markdown list with exactly {number} items, sorted alphabetically by their first words."
    return Demand({"check": "sorted_items", "number": number}, say, write)


def _item_length(rng: random.Random, base: Base) -> Demand:
    most = max(len(statement.split()) for statement in base.statements) + rng.randint(0, 3)
    say = f"Use a Markdown list whose items have at most {most} words each."
    spec = {"check": "item_length", "relation": "at most", "number": most}
    return Demand(spec, say, setting(arrange=_lines_with(lambda _: "- ")))


def _line_prefix(rng: random.Random, base: Base) -> Demand:
    prefix = rng.choice(("> ", "-> ", "~ ", "| "))
    say = f'Begin every line with "{prefix.strip()}" and a blank.'
    return Demand({"check": "line_prefix", "prefix": prefix}, say, setting(arrange=_lines_with(lambda _: prefix)))


def _line_count(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    spec = {"check": "num_lines", "relation": "exactly", "number": number}
    return Demand(spec, f"Write exactly {number} lines.", setting(arrange="\n".join))


def _paragraphs(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    spec = {"check": "num_paragraphs", "relation": "exactly", "number": number}
    say = f"Write exactly {number} paragraphs, with a blank line between each two."
    return Demand(spec, say, setting(arrange="\n\n".join))


def _divided(rng: random.Random, base: Base) -> Demand:
    number, divider = len(base.rows), rng.choice(("***", "---", "+++"))
    say = f"Write exactly {number} paragraphs, with a line that holds only {divider} between each two."
    spec = {"check": "divided_paragraphs", "number": number, "divider": divider}
    return Demand(spec, say, setting(arrange=f"\n{divider}\n".join))


def _paragraph_begins(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    nth, word = rng.randint(1, number), rng.choice(sorted(_LEADS.values()))
    leads = ["" if place != nth else word.capitalize() for place in range(1, number + 1)]
    say = f'Write exactly {number} paragraphs, with a blank line between each two; number {nth} begins with "{word}".'
    spec = {"check": "paragraph_begins", "number": number, "nth": nth, "word": word}
    return Demand(spec, say, setting(arrange="\n\n".join, leads=leads))


def _sections(rng: random.Random, base: Base) -> Demand:
    number, marker = len(base.rows), rng.choice(("Section", "Part", "Chapter"))
    say = f'Write {number} sections, each opened by a line "{marker} X", where X is its number, beginning with 1.'
    spec = {"check": "num_sections", "marker": marker, "relation": "exactly", "number": number}
    return Demand(spec, say, setting(arrange=_lines_with(lambda place: f"{marker} {place}\n")))


def _headings(rng: random.Random, base: Base) -> Demand:
    number, level = len(base.rows), rng.randint(1, 3)
    marks = "#" * level
    say = f'Use exactly {number} Markdown headings, all of them opened by "{marks} ".'
    spec = {"check": "headings", "level": level, "number": number}
    return Demand(spec, say, setting(arrange=_lines_with(lambda place: f"{marks} Note {chr(64 + place)}\n")))


def _acrostic(rng: random.Random, base: Base) -> Demand:
    word = rng.choice(_ACROSTICS[len(base.rows)])
    leads = [_LEADS[letter].capitalize() for letter in word]
    say = f'Write one line for each entry; the first letters of the lines, read downwards, spell "{word}".'
    return Demand({"check": "acrostic", "word": word}, say, setting(arrange="\n".join, leads=leads))


def _two_responses(rng: random.Random, base: Base) -> Demand:
    others = [verb for verb in base.verbs if verb != base.verbs[0]]

    def twice(draft: Draft) -> str:
        again = [statement.format(verb=rng.choice(others)) for statement in draft.statements]
        return "\n".join((". ".join(draft.sentences()) + ".", "******", ". ".join(again) + "."))

    say = "Give two different versions, both complete, with six stars between them: ******."
    return Demand({"check": "two_responses"}, say, setting(whole=twice), {"divider": "******"})


def _table(rng: random.Random, base: Base) -> Demand:
    header = list(base.columns)

    def whole(draft: Draft) -> str:
        rows = [header, ["---"] * len(header), *draft.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    say = f"Reply with one Markdown table with the columns {', '.join(header)}, in this order, and one row for each entry."
    return Demand({"check": "table", "header": header, "rows": len(base.rows)}, say, setting(whole=whole))


def _csv(rng: random.Random, base: Base) -> Demand:
    header = list(base.columns)

    def whole(draft: Draft) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([header, *draft.rows])
        return out.getvalue().strip()

    say = f"Reply with comma-separated values and nothing else: first the line {','.join(header)}, then one line for each entry."
    return Demand({"check": "csv_rows", "header": header, "rows": len(base.rows)}, say, setting(whole=whole))


def _json_keys(rng: random.Random, base: Base) -> Demand:
    keys = base.heads
    say = f"Reply with one JSON object and nothing else; its keys are exactly {', '.join(keys)}, each value holds the rest of the entry."
    return Demand({"check": "json_keys", "keys": keys}, say, setting(whole=_object))


def _object(draft: Draft) -> str:
    return json.dumps({row[0]: " ".join(row[1:]) for row in draft.rows}, indent=1)


def _json_array(rng: random.Random, base: Base) -> Demand:
    number = len(base.rows)
    say = f"Reply with a JSON array of exactly {number} strings and nothing else, one string for each entry."
    return Demand(
        {"check": "json_array", "number": number}, say, setting(whole=lambda draft: json.dumps(draft.sentences()))
    )


def _key_lines(rng: random.Random, base: Base) -> Demand:
    keys = base.heads
    say = f'Reply with one line for each of {", ".join(keys)}, in this order, written as "key: rest of the entry", and no other line.'
    whole = setting(whole=lambda draft: "\n".join(f"{row[0]}: {' '.join(row[1:])}" for row in draft.rows))
    return Demand({"check": "key_lines", "keys": keys}, say, whole)


MAKERS = {
    "num_bullets": maker(_bullets, "layout"),
    "bullets_then_words": maker(_bullets_then_words, "layout", "opening", "closing", "length"),
    "numbered_list": maker(_numbered, "layout", "digits"),
    "nested_list": maker(_nested, "layout", "mark"),
    "only_list": maker(_only_list, "layout", "opening", "closing", "length", "extra", "wrap"),
    "sorted_items": maker(_sorted, "layout", "lead"),
    "item_length": maker(_item_length, "layout"),
    "line_prefix": maker(_line_prefix, "layout", "opening", "closing", "length", "extra", "wrap"),
    "num_lines": maker(_line_count, "layout", "opening", "closing", "length", "extra", "wrap"),
    "num_paragraphs": maker(_paragraphs, "layout"),
    "divided_paragraphs": maker(_divided, "layout"),
    "paragraph_begins": maker(_paragraph_begins, "layout", "opening", "lead"),
    "num_sections": maker(_sections, "layout", "digits", "mark"),
    "headings": maker(_headings, "layout", "mark"),
    "acrostic": maker(_acrostic, "layout", "lead", "opening", "closing", "length", "extra", "wrap"),
    "two_responses": maker(_two_responses, *WHOLE),
    "table": maker(_table, *WHOLE, "plain"),
    "csv_rows": maker(_csv, *WHOLE, "case", "commas", "plain"),
    "json_keys": maker(_json_keys, *WHOLE, "case", "commas", "plain"),
    "json_array": maker(_json_array, *WHOLE, "commas"),
    "key_lines": maker(_key_lines, *WHOLE, "plain"),
}
