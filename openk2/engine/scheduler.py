"""Continuous batching: who is computed next, and in which pages (K2 §3.3). Nothing here waits.

Shapes: B rows of a batch, T new tokens, D model, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from openk2.engine import sampler
from openk2.engine.cache import LatentPages
from openk2.engine.config import EngineConfig
from openk2.engine.pages import Ints, Page, PagePool, common
from openk2.engine.request import Drawn, Request
from openk2.engine.rows import Rows
from openk2.model.moe import Routing
from openk2.model.transformer import Transformer

# What the fixed cost of a forward pass of a small model is worth, in tokens.
_PADDING_PER_BATCH = 128


class Scheduler:
    """Requests waiting and running; a ``step`` computes some of the prompts and draws a token for every other row."""

    def __init__(self, model: Transformer, config: EngineConfig, stop_ids: frozenset[int]) -> None:
        assert model.embed_tokens is not None
        assert model.lm_head is not None
        self.model, self.config, self.weight_version = model, config, 0
        self.num_sampled_tokens = self.num_prefill_tokens = self.num_cached_tokens = self.num_preemptions = 0
        self.waiting: deque[Request] = deque()
        self.rows = Rows(config)
        self._is_stop_V = np.zeros(model.config.vocab_size, dtype=bool)
        self._is_stop_V[list(stop_ids)] = True
        self._head = model.lm_head
        self._device, self._dtype = model.embed_tokens.weight.device, model.embed_tokens.weight.dtype
        self._pool = PagePool(config.num_pages, config.page_tokens)
        self._latents: LatentPages | None = None

    @property
    def idle(self) -> bool:
        """Nothing is left to do."""
        return not self.waiting and not self.rows.num_active

    @property
    def num_cache_bytes(self) -> int:
        """Memory the cache may come to take; 0 before the first step and while asleep."""
        return 0 if self._latents is None else self._latents.num_bytes

    def step(self) -> list[Request]:
        """One round. Returns the requests that have something new: a token, or their end."""
        news = self._drop_cancelled()
        self._admit()
        news += self._prefill()
        news += self._decode()
        return list(dict.fromkeys(news))

    def take_weights(self, version: int) -> None:
        """The model's weights are now ``version``: what the old ones computed is dropped, running rows begin anew."""
        for row in self.rows.active()[::-1]:
            self._put_back(int(row))
        self._pool.forget()
        self.weight_version = version

    def sleep(self) -> None:
        """Give the cache's memory back. The next step allocates it again."""
        self.take_weights(self.weight_version)
        self._latents = None

    def drop_all(self) -> None:
        """Give everything up."""
        self.waiting.clear()
        for row in self.rows.active():
            _, pages = self.rows.vacate(int(row))
            self._pool.let_go(pages)
        self._pool.forget()

    # -- who runs -----------------------------------------------------------------------------

    def _drop_cancelled(self) -> list[Request]:
        dropped = [request for request in self.waiting if request.cancelled]
        for request in dropped:
            self.waiting.remove(request)
            request.finish("abort", self.weight_version)
        rows = [int(row) for row in self.rows.active() if self.rows.request(int(row)).cancelled]
        return dropped + [self._end(row, "abort") for row in rows]

    def _admit(self) -> None:
        """Give rows to waiting requests in order of arrival, as long as there are pages for their prompts.

        One whose prompt begins like one that is being computed waits for that: what they share is computed once.
        """
        begun = [self.rows.tokens(int(row)) for row in self._with_new_tokens(several=True)]
        postponed: list[Request] = []
        while self.waiting and (row := self.rows.vacant()) is not None:
            request = self.waiting.popleft()
            tokens = request.tokens
            # The last token is computed anew: its logits are what the first draw needs.
            pages, partial, num_cached = self._pool.match(tokens[:-1])
            num_missing = self._pages_for(len(tokens)) - len(pages)
            waits = max((common(other, tokens[:-1]) for other in begun), default=0) >= num_cached + self._page_tokens
            # A page to spare for every row that runs: who is admitted should not be put back at once.
            fits = num_missing + self.rows.num_active <= self._pool.num_available or not self.rows.num_active
            if waits or not fits:
                self._pool.let_go(pages)
                postponed.append(request)
                if fits:
                    continue
                break
            self.rows.admit(row, request, pages, num_cached)
            source = -1 if partial is None else partial.index
            self._add_pages(row, num_missing)
            if partial is not None:
                target = self.rows.pages[row][len(pages)].index
                self._cache.copy(source, target, num_cached - len(pages) * self._page_tokens)
            self._put_latents_back(row, request)
            self._count_cached(row, request)
            if len(tokens) - self.rows.table["cached"][row] > 1:
                begun.append(tokens)
        self.waiting.extendleft(reversed(postponed))

    def _put_latents_back(self, row: int, request: Request) -> None:
        """A paused request brings what it had computed, unless the cache still knows as much."""
        latents_NTL, request.latents_NTL = request.latents_NTL, None
        if latents_NTL is not None and latents_NTL.shape[1] > self.rows.table["cached"][row]:
            num_tokens = latents_NTL.shape[1]
            num_pages = self._pages_for(num_tokens)
            num_shared = int(self.rows.table["cached"][row]) // self._page_tokens
            start = num_shared * self._page_tokens
            self._cache.write(self.rows.pages_RW[row, num_shared:num_pages], latents_NTL[:, start:])
            self._set_cached(row, num_tokens)

    def _count_cached(self, row: int, request: Request) -> None:
        if not request.drawn:
            request.num_cached = int(self.rows.table["cached"][row])
            self.num_cached_tokens += request.num_cached

    def _put_back(self, row: int) -> None:
        """Let a running request wait again, ahead of all others; its tokens are kept."""
        self._know_last_page(row)
        request, pages = self.rows.vacate(row)
        self._pool.let_go(pages)
        self.waiting.appendleft(request)

    def _end(self, row: int, reason: Literal["stop", "length", "abort"], stop_text: str | None = None) -> Request:
        """Take a request out of its row; what it computed stays known until its pages are wanted."""
        request = self.rows.request(row)
        num_cached = int(self.rows.table["cached"][row])
        pages = self.rows.pages_RW[row, : self._pages_for(num_cached)]
        if request.keep_latents:
            request.latents_NTL = self._cache.read(pages, num_cached)
        experts = self._cache.experts(pages, num_cached) if request.wants_experts else None
        request.finish(reason, self.weight_version, stop_text=stop_text, experts=experts)
        self._know_last_page(row)
        _, held = self.rows.vacate(row)
        self._pool.let_go(held)
        return request

    # -- pages --------------------------------------------------------------------------------

    @property
    def _cache(self) -> LatentPages:
        if self._latents is None:
            self._latents = LatentPages(self.model.config, self.config, device=self._device, dtype=self._dtype)
        return self._latents

    @property
    def _page_tokens(self) -> int:
        return self.config.page_tokens

    def _pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self._page_tokens)

    def _add_pages(self, row: int, count: int) -> None:
        for _ in range(count):
            page = self._pool.take()
            assert page is not None, "somebody promised a page that is not there"
            self.rows.add_page(row, page)

    def _give_room(self, rows: Ints) -> Ints:
        """A page for each row whose next token begins one; where none is left the youngest row is put back."""
        lacking = rows[self.rows.table["length"][rows] > self.rows.num_pages_R[rows] * self._page_tokens]
        for row in lacking[np.argsort(self.rows.table["order"][lacking])]:
            while self.rows.table["active"][row] and not self._pool.num_available:
                self.num_preemptions += 1
                self._put_back(int(self.rows.active()[-1]))
            if self.rows.table["active"][row]:
                self._add_pages(int(row), 1)
        return rows[self.rows.table["active"][rows]]

    def _set_cached(self, row: int, num_cached: int) -> None:
        """Note how many tokens have latents; pages that are full now can be shared from now on."""
        before = int(self.rows.table["cached"][row])
        self.rows.table["cached"][row] = num_cached
        for number in range(before // self._page_tokens, num_cached // self._page_tokens):
            tokens = self.rows.tokens_RS[row, number * self._page_tokens : (number + 1) * self._page_tokens]
            self._know(row, number, tokens)

    def _know_last_page(self, row: int) -> None:
        """Share the page that is not full yet, as far as it is filled: its owner goes on behind that."""
        num_cached = int(self.rows.table["cached"][row])
        number, num_tokens = divmod(num_cached, self._page_tokens)
        if num_tokens:
            self._know(row, number, self.rows.tokens_RS[row, num_cached - num_tokens : num_cached])

    def _know(self, row: int, number: int, tokens: Ints) -> None:
        pages = self.rows.pages[row]
        parent: Page | None = pages[number - 1] if number else None
        known = self._pool.know(pages[number], parent, tokens)
        if known is not pages[number]:
            self.rows.replace_page(row, number, known)

    # -- one step -----------------------------------------------------------------------------

    def _with_new_tokens(self, *, several: bool) -> Ints:
        """Running rows with more than one token to compute, or with just one, in the order of admission."""
        rows = self.rows.active()
        return rows[(self.rows.num_new(rows) > 1) == several]

    def _prefill(self) -> list[Request]:
        """Compute prompts, the oldest first, up to ``prefill_tokens``; those that are complete draw a token."""
        rows = self._with_new_tokens(several=True)
        before = np.cumsum(self.rows.num_new(rows)) - self.rows.num_new(rows)
        chunks = np.minimum(self.rows.num_new(rows), self.config.prefill_tokens - before)
        rows, chunks = rows[chunks > 0], chunks[chunks > 0]
        news: list[Request] = []
        for batch in _batches(chunks, self.rows.table["cached"][rows] == 0):
            logits_BV = self._forward(rows[batch], chunks[batch])
            complete = np.flatnonzero(self.rows.num_new(rows[batch]) == 0)
            for row in rows[batch][complete]:
                self._know_last_page(int(row))
            self.num_prefill_tokens += int(chunks[batch].sum())
            if len(complete):
                news += self._draw(rows[batch][complete], logits_BV[torch.from_numpy(complete)])
        return news

    def _decode(self) -> list[Request]:
        rows = self._give_room(self._with_new_tokens(several=False))
        return self._draw(rows, self._forward(rows, np.ones_like(rows))) if len(rows) else []

    def _forward(self, rows_B: Ints, new_B: Ints) -> Tensor:
        """Compute the next ``new_B`` tokens of each row; logits after the last of each, [B, V]."""
        cached_B = self.rows.table["cached"][rows_B]
        view = self._cache.view(self.rows.pages_RW[rows_B], cached_B, new_B)
        last = self.rows.tokens_RS.shape[1] - 1
        positions_BT = np.minimum(cached_B[:, None] + np.arange(new_B.max()), last)
        tokens = torch.from_numpy(self.rows.tokens_RS[rows_B[:, None], positions_BT]).to(self._device)
        routing = Routing() if self.config.record_experts else None
        hidden_BTD = self.model.hidden(tokens, positions=view.positions_BT, cache=view, routing=routing)
        if routing is not None:
            view.record(routing)
        boundary_B = (cached_B + new_B) // self._page_tokens != cached_B // self._page_tokens
        for row, num_new in zip(rows_B[boundary_B], new_B[boundary_B], strict=True):
            self._set_cached(int(row), int(self.rows.table["cached"][row] + num_new))
        self.rows.table["cached"][rows_B] = cached_B + new_B
        if hidden_BTD.shape[1] == 1:
            return self._head(hidden_BTD[:, 0])
        last_B = torch.from_numpy(new_B - 1).to(self._device)
        return self._head(hidden_BTD[torch.arange(len(rows_B), device=self._device), last_B])

    def _draw(self, rows_B: Ints, logits_BV: Tensor) -> list[Request]:
        """Give each row its next token, and end those that are done."""
        table = self.rows.table[rows_B]
        requests = [self.rows.request(int(row)) for row in rows_B]
        logprobs_BV = sampler.logprobs(logits_BV, table["temperature"])
        tokens_B, chosen_B = sampler.draw(
            logprobs_BV,
            table["temperature"],
            table["top_p"],
            table["top_k"],
            sampler.uniforms(table["seed"], table["length"].astype(np.uint64)),
            {i: request.constraint.allowed() for i, request in enumerate(requests) if request.constraint is not None},
        )
        self.rows.append(rows_B, tokens_B)
        self.num_sampled_tokens += len(tokens_B)
        full_B = table["length"] + 1 >= table["limit"]
        drawn = zip(tokens_B.tolist(), chosen_B.tolist(), strict=True)
        for i, (request, (token_id, logprob)) in enumerate(zip(requests, drawn, strict=True)):
            top = sampler.most_probable(logprobs_BV[i], request.top_logprobs) if request.top_logprobs else []
            request.drawn.append(Drawn(token_id, logprob, top))
            if request.constraint is not None:
                request.constraint.accept(token_id)
            stop_text = None if request.stops is None else request.stops.ends_with(token_id)
            if stop_text is not None or self._is_stop_V[token_id]:
                self._end(int(rows_B[i]), "stop", stop_text)
            elif full_B[i]:
                self._end(int(rows_B[i]), "length")
        return requests


def _batches(sizes: Ints, fresh: np.ndarray) -> Iterator[Ints]:
    """Rows of similar size together, as long as padding them costs less than a forward pass of their own.

    Rows without anything cached go by themselves: they need no look into the cache.
    """
    for kind in (True, False):
        members = np.flatnonzero(fresh == kind)
        members = members[np.argsort(-sizes[members], kind="stable")]
        while len(members):
            padding = np.cumsum(sizes[members[0]] - sizes[members])
            count = int(np.searchsorted(padding, _PADDING_PER_BATCH, side="right"))
            yield members[:count]
            members = members[count:]
