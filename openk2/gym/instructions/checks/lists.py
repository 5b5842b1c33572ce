"""Lists in Markdown."""

from __future__ import annotations

from openk2.gym.instructions.check import Count, Number, Phrase, Relation, compare, group
from openk2.gym.instructions.reading import bullets, fold, items, lines, words


def num_bullets(reply: str, number: Count) -> bool:
    """Exactly so many bullet points, those of nested lists included."""
    return len(bullets(reply)) == number


def numbered_list(reply: str, number: Count) -> bool:
    """One list numbered from 1 to ``number``, in order, each with words of its own."""
    found = [item for item in items(reply) if item.number is not None]
    return [item.number for item in found] == list(range(1, number + 1)) and all(words(item.text) for item in found)


def nested_list(reply: str, outer: Count, inner: Count) -> bool:
    """So many outer points, each with exactly so many inner ones, indented by two columns or more; no third level."""
    found = items(reply)
    if not found or found[0].indent > 1:
        return False
    sizes: list[int] = []
    for item in found:
        if item.indent <= 1:
            sizes.append(0)
        else:
            sizes[-1] += 1
    inner_indents = {item.indent for item in found if item.indent > 1}
    return sizes == [inner] * outer and len(inner_indents) == 1


def only_list(reply: str) -> bool:
    """Nothing but items of lists."""
    return 0 < len(items(reply)) == len(lines(reply))


def sorted_items(reply: str, number: Count) -> bool:
    """So many items, in alphabetical order of their words."""
    texts = [[fold(word) for word in words(item.text)] for item in items(reply)]
    return len(texts) == number and texts == sorted(texts) and all(texts)


def item_length(reply: str, relation: Relation, number: Number) -> bool:
    """There is a list, and so many words are in each item."""
    found = items(reply)
    return bool(found) and all(compare(len(words(item.text)), relation, number) for item in found)


def line_prefix(reply: str, prefix: Phrase) -> bool:
    """Every line that is not blank begins with the prefix, and has words behind it."""
    found = lines(reply)
    return bool(found) and all(line.startswith(prefix) and words(line[len(prefix) :]) for line in found)


CHECKS = group(num_bullets, numbered_list, nested_list, only_list, sorted_items, item_length, line_prefix)
