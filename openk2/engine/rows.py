"""The sequences being sampled, as one table: what a batch needs to know of each.

Shapes: R rows, W pages of a full context, S tokens of a full context.
"""

from __future__ import annotations

import numpy as np

from openk2.engine.config import EngineConfig
from openk2.engine.pages import Ints, Page
from openk2.engine.request import Request

_TABLE = np.dtype(
    [
        ("active", np.bool_),
        ("order", np.int64),  # when it was admitted
        ("length", np.int64),  # tokens known
        ("cached", np.int64),  # of these, how many have latents; the last one drawn has none yet
        ("limit", np.int64),  # the length at which it must end
        ("seed", np.uint64),
        ("temperature", np.float64),
        ("top_p", np.float64),
        ("top_k", np.int64),
    ]
)


class Rows:
    """Host-side state of ``max_rows`` sequences; each keeps its row until it ends."""

    def __init__(self, config: EngineConfig) -> None:
        self.table = np.zeros(config.max_rows, dtype=_TABLE)
        self.tokens_RS: Ints = np.zeros((config.max_rows, config.max_context), dtype=np.int64)
        width = -(-config.max_context // config.page_tokens)
        self.pages_RW: Ints = np.zeros((config.max_rows, width), dtype=np.int64)
        self.num_pages_R: Ints = np.zeros(config.max_rows, dtype=np.int64)
        self.pages: list[list[Page]] = [[] for _ in range(config.max_rows)]
        self.requests: list[Request | None] = [None] * config.max_rows
        self._num_admitted = 0

    @property
    def num_active(self) -> int:
        """Sequences being sampled."""
        return int(self.table["active"].sum())

    def active(self) -> Ints:
        """Rows being sampled, in the order of admission."""
        rows = np.flatnonzero(self.table["active"])
        return rows[np.argsort(self.table["order"][rows])]

    def vacant(self) -> int | None:
        """A free row; None when there is none."""
        row = int(self.table["active"].argmin())
        return None if self.table["active"][row] else row

    def request(self, row: int) -> Request:
        """Who is sampled in an active row."""
        request = self.requests[row]
        assert request is not None, f"row {row} is free"
        return request

    def any_begins_with(self, rows: list[int], tokens: Ints) -> bool:
        """Whether one of the active ``rows`` has ``tokens`` as its first."""
        long_enough = self.table["length"][rows] >= len(tokens)
        return bool(((self.tokens_RS[rows, : len(tokens)] == tokens).all(axis=1) & long_enough).any())

    def num_new(self, rows: Ints) -> Ints:
        """Tokens of each of ``rows`` that have no latents yet."""
        return self.table["length"][rows] - self.table["cached"][rows]

    def admit(self, row: int, request: Request, pages: list[Page], num_cached: int) -> None:
        """Put a request in a free row, with the pages that hold how it begins."""
        tokens, sampling = request.tokens, request.sampling
        self.tokens_RS[row, : len(tokens)] = tokens
        self.requests[row] = request
        for page in pages:
            self.add_page(row, page)
        self._num_admitted += 1
        self.table[row] = (
            True,
            self._num_admitted,
            len(tokens),
            num_cached,
            request.limit,
            request.seed,
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
        )

    def add_page(self, row: int, page: Page) -> None:
        """Give a row one more page."""
        self.pages_RW[row, len(self.pages[row])] = page.index
        self.pages[row].append(page)
        self.num_pages_R[row] += 1

    def replace_page(self, row: int, number: int, page: Page) -> None:
        """Use another page of the same content."""
        self.pages[row][number] = page
        self.pages_RW[row, number] = page.index

    def append(self, rows: Ints, tokens: Ints) -> None:
        """Add a token to each of ``rows``."""
        self.tokens_RS[rows, self.table["length"][rows]] = tokens
        self.table["length"][rows] += 1

    def vacate(self, row: int) -> tuple[Request, list[Page]]:
        """Take a request out of its row; its pages are the caller's to let go."""
        request, pages = self.request(row), self.pages[row]
        self.requests[row], self.pages[row], self.num_pages_R[row] = None, [], 0
        self.table["active"][row] = False
        return request, pages
