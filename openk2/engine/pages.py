"""Who owns which cache page, and which pages hold how a prompt begins.

Pages that hold known tokens form a tree: a page's parent is the page before it in the sequence. A prompt follows
the tree as far as its tokens go, and shares what it meets. Pages that no sequence holds stay in the tree, until the
one idle longest is wanted for something new.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_LOOK_AT = 32


@dataclass(slots=True, eq=False)
class Page:
    """One page of the cache. ``tokens`` are those it is known for: none while its owner still fills it."""

    index: int
    parent: Page | None = None
    tokens: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    children: dict[bytes, Page] = field(default_factory=dict)
    num_holders: int = 0


class PagePool:
    """``num_pages`` pages of ``page_tokens`` tokens."""

    def __init__(self, num_pages: int, page_tokens: int) -> None:
        self.num_pages, self.page_tokens = num_pages, page_tokens
        self._free = [Page(index) for index in reversed(range(num_pages))]
        # In the order in which they were let go. A sequence lets go of its last page first, and whoever holds a
        # page holds its parent, so the page idle longest never has a child.
        self._idle: OrderedDict[int, Page] = OrderedDict()
        self._root = Page(-1)

    @property
    def num_available(self) -> int:
        """Pages that nobody holds."""
        return len(self._free) + len(self._idle)

    def match(self, tokens: Ints) -> tuple[list[Page], Page | None, int]:
        """How far the tree knows ``tokens``: whole pages, now held; a page to copy the rest from; tokens in all.

        The page to copy from is not held: copy before anything else is taken.
        """
        pages: list[Page] = []
        node, start = self._root, 0
        while start + self.page_tokens <= len(tokens):
            child = node.children.get(tokens[start : start + self.page_tokens].tobytes())
            if child is None:
                break
            pages.append(child)
            node, start = child, start + self.page_tokens
        for page in pages:
            self._hold(page)
        partial, num_equal = _most_alike(node, tokens[start : start + self.page_tokens])
        return pages, partial, start + num_equal

    def take(self) -> Page | None:
        """A page of one's own; None when every page is held."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            _, page = self._idle.popitem(last=False)
            self._forget(page)
        else:
            return None
        page.num_holders = 1
        return page

    def know(self, page: Page, parent: Page | None, tokens: Ints) -> Page:
        """Enter what a held page holds so far into the tree. Returns the page to use from now on.

        Where the tree has a full page of the same tokens already, that one is held instead and ``page`` goes back.
        Where it has one that is not full, which belongs to another sequence, ``page`` stays outside the tree.
        """
        if page.parent is not None:
            self._forget(page)
        siblings = (parent or self._root).children
        known = siblings.get(tokens.tobytes())
        if known is None:
            page.parent, page.tokens = parent or self._root, tokens.copy()
            siblings[tokens.tobytes()] = page
        elif len(tokens) == self.page_tokens:
            self._hold(known)
            self.let_go([page])
            return known
        return page

    def let_go(self, pages: Sequence[Page]) -> None:
        """A sequence ends: its pages, in order, are no longer held by it."""
        for page in reversed(pages):
            page.num_holders -= 1
            if page.num_holders:
                continue
            if page.parent is None:
                self._free.append(page)
            else:
                self._idle[page.index] = page

    def forget(self) -> None:
        """Nothing cached is worth anything any more: new weights. No page may be held."""
        assert self.num_available == self.num_pages, f"{self.num_pages - self.num_available} pages are held"
        for page in self._idle.values():
            self._clear(page)
        self._idle.clear()
        self._root.children.clear()

    def _hold(self, page: Page) -> None:
        self._idle.pop(page.index, None)
        page.num_holders += 1

    def _forget(self, page: Page) -> None:
        assert page.parent is not None
        assert not page.children, "a page is let go before its parent"
        del page.parent.children[page.tokens.tobytes()]
        page.parent, page.tokens = None, np.zeros(0, dtype=np.int64)

    def _clear(self, page: Page) -> None:
        page.parent, page.tokens = None, np.zeros(0, dtype=np.int64)
        page.children.clear()
        self._free.append(page)


def _most_alike(node: Page, rest: Ints) -> tuple[Page | None, int]:
    """The child that begins most like ``rest``, and for how many tokens.

    A child that holds nothing but the beginning of ``rest`` (the same sequence, gone on) is found by name; of
    others only some are looked at.
    """
    named = (node.children.get(rest[:length].tobytes()) for length in range(len(rest), 0, -1))
    candidates = [
        next((child for child in named if child is not None), None),
        *islice(node.children.values(), _LOOK_AT),
    ]
    best, most = None, 0
    for child in candidates:
        if child is not None and (num_equal := _common(child.tokens, rest)) > most:
            best, most = child, num_equal
    return best, most


def _common(a: Ints, b: Ints) -> int:
    """How many first tokens are the same."""
    width = min(len(a), len(b))
    differs = np.flatnonzero(a[:width] != b[:width])
    return int(differs[0]) if len(differs) else width
