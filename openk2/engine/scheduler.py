"""Continuous batching: who is computed next, and in which pages (K2 §3.3). Nothing here waits.

Shapes: B rows of a batch, N layers, T tokens, L latent width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openk2.engine import sampler
from openk2.engine.config import EngineConfig
from openk2.engine.pages import Ints, Page, PagePool
from openk2.engine.request import Drawn, Request
from openk2.engine.rows import Rows
from openk2.engine.runner import Runner
from openk2.model.transformer import Transformer

# What the fixed cost of a forward pass of a small model is worth, in tokens.
_PADDING_PER_BATCH = 128
# How many waiting requests may be passed by for ones behind them.
_LOOK_AHEAD = 64


class Scheduler:
    """Requests waiting and running; a ``step`` computes some of the prompts and draws a token for every other row."""

    def __init__(self, model: Transformer, config: EngineConfig, stop_ids: frozenset[int]) -> None:
        self.config, self.weight_version = config, 0
        self.num_sampled_tokens = self.num_prefill_tokens = self.num_cached_tokens = self.num_preemptions = 0
        # Callers of another thread only append here; a step takes it from there.
        self._arrived: deque[Request] = deque()
        self._waiting: deque[Request] = deque()
        self.rows = Rows(config)
        self._is_stop_V = np.zeros(model.config.vocab_size, dtype=bool)
        self._is_stop_V[list(stop_ids)] = True
        self._pool = PagePool(config.num_pages, config.page_tokens)
        self._runner = Runner(model, config)

    @property
    def idle(self) -> bool:
        """Nothing is left to do."""
        return not self.num_waiting and not self.rows.num_active

    @property
    def num_waiting(self) -> int:
        """Requests that have no row yet."""
        return len(self._arrived) + len(self._waiting)

    @property
    def num_cache_bytes(self) -> int:
        """Memory the cache may come to take; 0 before the first step and while asleep."""
        return self._runner.num_cache_bytes

    def add(self, request: Request) -> None:
        """Let a request wait for its turn. May be called while a step runs in another thread."""
        self._arrived.append(request)

    def step(self) -> list[Request]:
        """One round. Returns the requests that have something new: a token, or their end."""
        while self._arrived:
            self._waiting.append(self._arrived.popleft())
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
        self._runner.look_at_weights()
        self.weight_version = version

    def sleep(self) -> None:
        """Give the cache's memory back. The next step allocates it again."""
        self.take_weights(self.weight_version)
        self._runner.drop_cache()

    def drop_all(self) -> None:
        """Give everything up."""
        self._arrived.clear()
        self._waiting.clear()
        for row in self.rows.active():
            _, pages = self.rows.vacate(int(row))
            self._pool.let_go(pages)
        self._pool.forget()

    # -- who runs -----------------------------------------------------------------------------

    def _drop_cancelled(self) -> list[Request]:
        dropped = [request for request in self._waiting if request.cancelled]
        for request in dropped:
            self._waiting.remove(request)
            request.finish("abort", self.weight_version)
        rows = [int(row) for row in self.rows.active() if self.rows.request(int(row)).cancelled]
        return dropped + [self._end(row, "abort") for row in rows]

    def _admit(self) -> None:
        """Give rows to waiting requests in order of arrival, as long as there are pages for their prompts.

        One whose prompt begins like one that is being computed waits for that: what they share is computed once.
        """
        if not self._waiting:
            return
        begun = self._with_new_tokens(several=True).tolist()
        postponed: list[Request] = []
        while self._waiting and len(postponed) < _LOOK_AHEAD and (row := self.rows.vacant()) is not None:
            request = self._waiting.popleft()
            tokens = request.tokens
            # The last token is computed anew: its logits are what the first draw needs.
            pages, partial, num_cached = self._pool.match(tokens[:-1])
            num_missing = self._pages_for(len(tokens)) - len(pages)
            waits = num_cached + self._page_tokens < len(tokens) and self.rows.any_begins_with(
                begun, tokens[: num_cached + self._page_tokens]
            )
            # A page to spare for every row that runs: who is admitted should not be put back at once.
            fits = num_missing + self.rows.num_active <= self._pool.num_available or not self.rows.num_active
            if waits or not fits:
                self._pool.let_go(pages)
                postponed.append(request)
                if fits:
                    continue
                break
            self.rows.admit(row, request, pages, num_cached)
            if partial is not None:
                # The first page taken may be the partial one itself: it is read before any other is wiped.
                source, num_missing = partial.index, num_missing - 1
                self._runner.cache.copy(source, self._take_page(row), num_cached - len(pages) * self._page_tokens)
            self._add_pages(row, num_missing)
            self._put_latents_back(row, request)
            self._count_cached(row, request)
            if len(tokens) - self.rows.table["cached"][row] > 1:
                begun.append(row)
        self._waiting.extendleft(reversed(postponed))

    def _put_latents_back(self, row: int, request: Request) -> None:
        """A paused request brings what these weights had computed, unless the cache still knows as much.

        Latents come without the experts of their tokens: where those are recorded, the tokens are computed anew.
        """
        latents_NTL, request.latents_NTL = request.latents_NTL, None
        if latents_NTL is None or self.config.record_experts or request.fingerprint != self._runner.fingerprint:
            return
        # The last token is computed anew: its logits are what the first draw needs.
        num_tokens = min(latents_NTL.shape[1], int(self.rows.table["length"][row]) - 1)
        if num_tokens > self.rows.table["cached"][row]:
            num_pages = self._pages_for(num_tokens)
            num_shared = int(self.rows.table["cached"][row]) // self._page_tokens
            start = num_shared * self._page_tokens
            self._runner.cache.write(self.rows.pages_RW[row, num_shared:num_pages], latents_NTL[:, start:num_tokens])
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
        self._waiting.appendleft(request)

    def _end(self, row: int, reason: Literal["stop", "length", "abort"], stop_text: str | None = None) -> Request:
        """Take a request out of its row; what it computed stays known until its pages are wanted."""
        request = self.rows.request(row)
        num_cached = int(self.rows.table["cached"][row])
        pages = self.rows.pages_RW[row, : self._pages_for(num_cached)]
        if request.keep_latents:
            request.latents_NTL = self._runner.cache.read(pages, num_cached)
            request.fingerprint = self._runner.fingerprint
        experts = self._runner.cache.experts(pages, num_cached) if request.wants_experts else None
        request.finish(reason, self.weight_version, stop_text=stop_text, experts=experts)
        self._know_last_page(row)
        _, held = self.rows.vacate(row)
        self._pool.let_go(held)
        return request

    def _fail(self, row: int, error: Exception) -> None:
        """End a request that cannot go on; the others do."""
        self._end(row, "abort").error = error

    # -- pages --------------------------------------------------------------------------------

    @property
    def _page_tokens(self) -> int:
        return self.config.page_tokens

    def _pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self._page_tokens)

    def _add_pages(self, row: int, count: int) -> None:
        for _ in range(count):
            self._runner.cache.clear(self._take_page(row))

    def _take_page(self, row: int) -> int:
        page = self._pool.take()
        assert page is not None, "somebody promised a page that is not there"
        self.rows.add_page(row, page)
        return page.index

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
            logits_BV = self._compute(rows[batch], chunks[batch])
            complete = np.flatnonzero(self.rows.num_new(rows[batch]) == 0)
            for row in rows[batch][complete]:
                self._know_last_page(int(row))
            self.num_prefill_tokens += int(chunks[batch].sum())
            if len(complete):
                news += self._draw(rows[batch][complete], logits_BV[torch.from_numpy(complete)])
        return news

    def _decode(self) -> list[Request]:
        rows = self._give_room(self._with_new_tokens(several=False))
        if not len(rows):
            return []
        logits_BV = self._compute(rows, np.ones_like(rows))
        if not self._runner.compiled:
            return self._draw(rows, logits_BV)
        # PyTorch's second thread goes on spinning after an operation, on the core where the decoder's is wanted.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._draw(rows, logits_BV)
        finally:
            torch.set_num_threads(threads)

    def _compute(self, rows_B: Ints, new_B: Ints) -> Tensor:
        """The next ``new_B`` tokens of each row; logits after the last of each, [B, V]."""
        logits_BV = self._runner.logits(self.rows, rows_B, new_B)
        cached_B = self.rows.table["cached"][rows_B]
        boundary_B = (cached_B + new_B) // self._page_tokens != cached_B // self._page_tokens
        for row, num_cached in zip(rows_B[boundary_B], (cached_B + new_B)[boundary_B], strict=True):
            self._set_cached(int(row), int(num_cached))
        self.rows.table["cached"][rows_B] = cached_B + new_B
        return logits_BV

    def _draw(self, rows_B: Ints, logits_BV: Tensor) -> list[Request]:
        """Give each row its next token, and end those that are done."""
        everyone = [self.rows.request(int(row)) for row in rows_B]
        logprobs_BV = sampler.logprobs(logits_BV, self.rows.table["temperature"][rows_B])
        allowed = self._allowed(rows_B, logprobs_BV)
        going = np.flatnonzero(self.rows.table["active"][rows_B])
        if len(going) < len(rows_B):
            rows_B, logprobs_BV = rows_B[going], logprobs_BV[torch.from_numpy(going).to(logprobs_BV.device)]
        if not len(rows_B):
            return everyone
        table = self.rows.table[rows_B]
        tokens_B, chosen_B = sampler.draw(
            logprobs_BV,
            table["temperature"],
            table["top_p"],
            table["top_k"],
            sampler.uniforms(table["seed"], table["length"].astype(np.uint64)),
            {i: allowed[int(row)] for i, row in enumerate(rows_B) if int(row) in allowed},
        )
        self.rows.append(rows_B, tokens_B)
        self.num_sampled_tokens += len(tokens_B)
        for i, (row, token_id, logprob) in enumerate(
            zip(rows_B.tolist(), tokens_B.tolist(), chosen_B.tolist(), strict=True)
        ):
            wanted = self.rows.request(row).top_logprobs
            self._take(row, Drawn(token_id, logprob, sampler.most_probable(logprobs_BV[i], wanted) if wanted else []))
        return everyone

    def _allowed(self, rows_B: Ints, logprobs_BV: Tensor) -> dict[int, npt.NDArray[np.bool_]]:
        """What grammars allow, by row. A row without a next token, for want of numbers or by its grammar, ends here."""
        allowed: dict[int, npt.NDArray[np.bool_]] = {}
        # One logit that is no number makes a whole row of log-probabilities so.
        for row in rows_B[logprobs_BV[:, 0].isnan().cpu().numpy()].tolist():
            self._fail(row, FloatingPointError("the model's logits are not finite"))
        for row in rows_B.tolist():
            request = self.rows.requests[row]
            if request is not None and request.constraint is not None:
                try:
                    allowed[row] = _checked(request.constraint.allowed(), logprobs_BV.shape[1])
                except Exception as error:  # noqa: BLE001 - a grammar is its caller's code: it fails that request alone
                    self._fail(row, error)
        return allowed

    def _take(self, row: int, drawn: Drawn) -> None:
        """A row has a new token: note it, and see whether it ends there."""
        request, token_id = self.rows.request(row), drawn.token_id
        request.drawn.append(drawn)
        request.weight_versions.append(self.weight_version)
        try:
            if request.constraint is not None:
                request.constraint.accept(token_id)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(row, error)
            return
        stop_text = None if request.stops is None else request.stops.ends_with(token_id)
        if stop_text is not None or self._is_stop_V[token_id]:
            self._end(row, "stop", stop_text)
        elif self.rows.table["length"][row] >= self.rows.table["limit"][row]:
            self._end(row, "length")


def _checked(mask: npt.NDArray[np.bool_], vocab_size: int) -> npt.NDArray[np.bool_]:
    if mask.shape != (vocab_size,) or not mask.any():
        raise ValueError(f"a constraint allows at least one of {vocab_size} tokens, got a mask of {mask.shape}")
    return mask


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
