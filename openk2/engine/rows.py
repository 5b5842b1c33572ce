"""Which sequence lies in which slot. Rows being sampled are always the first ones, so a batch is a range.

Shapes: S slots, P positions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from openk2.engine.cache import LatentSlots
from openk2.schema import Sampled, Sampling

Ints = npt.NDArray[np.int64]

_FREE, _RESERVED = -1, np.iinfo(np.int64).max
_TABLE = np.dtype(
    [
        ("length", np.int64),  # tokens known
        ("cached", np.int64),  # of these, how many have latents; the last one sampled has none yet
        ("start", np.int64),  # where sampling began
        ("limit", np.int64),  # the length at which it must end
        ("used", np.int64),  # when the row was last sampled from
        ("seed", np.uint64),
        ("temperature", np.float64),
        ("top_p", np.float64),
        ("top_k", np.int64),
    ]
)


@dataclass(slots=True, eq=False)
class Request:
    """A prompt to continue, and who waits for it."""

    ids: Ints
    sampling: Sampling
    seed: int
    limit: int
    session: str | None
    future: asyncio.Future[Sampled]
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.ids.tobytes()


class Rows:
    """Host-side state of every slot: rows 0 … ``num_active`` − 1 are being sampled, the others are kept or free."""

    def __init__(self, latents: LatentSlots, num_slots: int) -> None:
        self.num_slots = num_slots
        self.num_active = 0
        self.table = np.zeros(num_slots, dtype=_TABLE)
        self.table["used"] = _FREE
        self.tokens_SP: Ints = np.zeros((num_slots, latents.max_context), dtype=np.int64)
        self.logprobs_SP = np.zeros((num_slots, latents.max_context), dtype=np.float32)
        self.requests: list[Request | None] = [None] * num_slots
        self.owners: list[str | None] = [None] * num_slots
        self.sessions: dict[str, int] = {}
        self._latents = latents
        self._clock = 0

    @property
    def num_vacant(self) -> int:
        """Rows a new request can take, if need be from an idle session."""
        return self.num_slots - self.num_active

    def num_kept(self, request: Request) -> int:
        """How many of the request's first tokens its session still has latents for; 0 unless all of them match."""
        row = self._own_row(request)
        if row is None:
            return 0
        cached = int(self.table["cached"][row])
        # The last token must be processed anew: its logits are what the first draw needs.
        if cached >= len(request.ids) or not np.array_equal(self.tokens_SP[row, :cached], request.ids[:cached]):
            return 0
        return cached

    def num_new(self, first: int, count: int) -> int:
        """Tokens of ``count`` rows that have no latents yet."""
        table = self.table[first : first + count]
        return int((table["length"] - table["cached"]).sum())

    def reserve(self, requests: list[Request]) -> None:
        """Keep the rows of these requests' sessions from being taken by one another."""
        for request in requests:
            row = self._own_row(request)
            if row is not None:
                self.table["used"][row] = _RESERVED

    def activate(self, request: Request) -> int:
        """Put a request in the next active row: its session's own, else a free one, else the longest idle."""
        kept = self.num_kept(request)
        row = self._own_row(request)
        if row is None:
            row = self.num_active + int(self.table["used"][self.num_active :].argmin())
            self._free(row)
        self._swap(row, self.num_active)
        row = self.num_active
        self.num_active += 1
        # A name that two episodes use at once stays with the first: the other goes without.
        if request.session is not None and self.sessions.get(request.session, row) == row:
            self.owners[row] = request.session
            self.sessions[request.session] = row
        self.requests[row] = request
        sampling = request.sampling
        num_tokens = len(request.ids)
        self.tokens_SP[row, :num_tokens] = request.ids
        self.table[row] = (
            num_tokens,
            kept,
            num_tokens,
            request.limit,
            self._clock,
            request.seed,
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
        )
        return row

    def share(self, source: int, target: int) -> None:
        """Give ``target``, whose prompt is the same, the latents of ``source``."""
        self.table["cached"][target] = self.table["cached"][source]
        self._latents.copy(source, target, int(self.table["cached"][source]))

    def append(self, first: int, tokens: Ints, logprobs: npt.NDArray[np.float32]) -> None:
        """Add a sampled token to each of the rows ``first`` …"""
        rows = np.arange(first, first + len(tokens))
        table = self.table[first : first + len(tokens)]
        self.tokens_SP[rows, table["length"]] = tokens
        self.logprobs_SP[rows, table["length"]] = logprobs
        table["length"] += 1

    def retire(self, row: int) -> tuple[Request, list[int], list[float]]:
        """End an active row; its session, if any, keeps the latents. The last active row moves to its place."""
        request = self.requests[row]
        assert request is not None
        sampled = slice(int(self.table["start"][row]), int(self.table["length"][row]))
        tokens, logprobs = self.tokens_SP[row, sampled].tolist(), self.logprobs_SP[row, sampled].tolist()
        self.requests[row] = None
        self._clock += 1
        self.table["used"][row] = self._clock
        if self.owners[row] is None:
            self._free(row)
        self.num_active -= 1
        self._swap(row, self.num_active)
        return request, tokens, logprobs

    def release(self, session: str) -> None:
        """Forget a session; a row still being sampled is freed when it ends."""
        row = self.sessions.get(session)
        if row is None:
            return
        if row < self.num_active:
            del self.sessions[session]
            self.owners[row] = None
        else:
            self._free(row)

    def forget(self) -> None:
        """Free every row; none may be active."""
        assert self.num_active == 0, f"{self.num_active} rows are still being sampled"
        for row in range(self.num_slots):
            self._free(row)

    def _own_row(self, request: Request) -> int | None:
        """The idle row that the request's session keeps."""
        row = self.sessions.get(request.session) if request.session is not None else None
        return None if row is None or row < self.num_active else row

    def _free(self, row: int) -> None:
        owner = self.owners[row]
        if owner is not None:
            del self.sessions[owner]
            self.owners[row] = None
        self.table["cached"][row] = 0
        self.table["used"][row] = _FREE

    def _swap(self, a: int, b: int) -> None:
        if a == b:
            return
        cached_a, cached_b = int(self.table["cached"][a]), int(self.table["cached"][b])
        if cached_a and cached_b:
            self._latents.swap(a, b, cached_a, cached_b)
        elif cached_a:
            self._latents.copy(a, b, cached_a)
        elif cached_b:
            self._latents.copy(b, a, cached_b)
        for array in (self.table, self.tokens_SP, self.logprobs_SP):
            _exchange(array, a, b)
        for listed in (self.requests, self.owners):
            _exchange_items(listed, a, b)
        for row in (a, b):
            owner = self.owners[row]
            if owner is not None:
                self.sessions[owner] = row


def _exchange(array: npt.NDArray[Any], a: int, b: int) -> None:
    array[[a, b]] = array[[b, a]]


def _exchange_items(items: list[Any], a: int, b: int) -> None:
    items[a], items[b] = items[b], items[a]
