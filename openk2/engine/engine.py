"""The engine: many conversations sampled together, on the trainer's own weights (K2 §3.3).

Shapes: B rows of a batch, T new tokens, D model, V vocabulary.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from openk2.engine import sampler
from openk2.engine.cache import LatentSlots
from openk2.engine.config import EngineConfig
from openk2.engine.rows import Ints, Request, Rows
from openk2.model.transformer import Transformer
from openk2.schema import Message, Sampled, Sampling, ToolSpec
from openk2.text.chat import ChatFormat


class EngineError(RuntimeError):
    """The engine broke down or was closed while someone waited for it."""


class Engine:
    """A ``Policy`` over a model in this process: continuous batching, latent cache, sessions.

    While requests wait, one task in the caller's event loop ticks: it admits prompts (equal ones are
    computed once), draws one token for every active row, and lets the loop run. Between events it
    holds no task, so that any event loop can use it next; two loops at the same time cannot.
    """

    def __init__(
        self,
        model: Transformer,
        chat_format: ChatFormat | None,
        config: EngineConfig,
        *,
        stop_ids: frozenset[int] | None = None,
    ) -> None:
        """``stop_ids`` end a turn; None means those of the chat format. Raises ValueError for a context too long."""
        if config.max_context > model.config.max_positions:
            raise ValueError(
                f"engine.max_context {config.max_context} exceeds the model's max_positions {model.config.max_positions}"
            )
        assert model.embed_tokens is not None
        assert model.lm_head is not None
        self.model, self.chat_format, self.config = model, chat_format, config
        self.weight_version = 0
        self.num_sampled_tokens = 0
        self.num_prefill_tokens = 0
        if stop_ids is None:
            stop_ids = frozenset() if chat_format is None else chat_format.stop_ids
        self._is_stop_V = np.zeros(model.config.vocab_size, dtype=bool)
        self._is_stop_V[list(stop_ids)] = True
        self._head = model.lm_head
        self._device = model.embed_tokens.weight.device
        self._latents = LatentSlots(
            model.config,
            num_slots=config.max_slots,
            max_context=config.max_context,
            device=self._device,
            dtype=model.embed_tokens.weight.dtype,
        )
        self._rows = Rows(self._latents, config.max_slots)
        self._in_progress: set[Request] = set()
        self._waiting: deque[Request] = deque()
        self._ticker: asyncio.Task[None] | None = None
        self._num_requests = 0
        self._closed = False

    @property
    def pad_id(self) -> int:
        """What fills a row: the tokenizer's padding, 0 where there is none."""
        return 0 if self.chat_format is None else self.chat_format.tokenizer.pad_id

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """The next assistant message. Raises ValueError without a chat format."""
        if self.chat_format is None:
            raise ValueError("complete() needs a chat format; this engine was made without one")
        sampled = await self.sample(self.chat_format.prompt(messages, tools), sampling)
        return self.chat_format.parse(sampled.token_ids)

    async def sample(self, token_ids: Sequence[int], sampling: Sampling, *, session: str | None = None) -> Sampled:
        """Continue ``token_ids`` until a stop id (which is part of the result), ``max_tokens`` or the full context.

        With a ``session`` the latents stay for the next call of that name, which then computes only
        what was added; if the first tokens differ, or the slot had to be given away, it starts afresh.
        Without a seed, the request's number is its seed.
        Raises ValueError for a prompt that is empty or longer than ``max_context``, ids out of range or
        an impossible ``sampling``; EngineError when the engine fails.
        """
        request = self._request(token_ids, sampling, session)
        if request.limit == len(request.ids):
            return Sampled([], [], "length", self.weight_version)
        self._in_progress.add(request)
        self._waiting.append(request)
        self._wake()
        try:
            return await request.future
        finally:
            self._in_progress.discard(request)
            if not request.future.done() or request.future.cancelled():
                self._withdraw(request)

    async def release(self, session: str) -> None:
        """Give the session's slot back. An unknown name is no error: it may have been evicted."""
        self._rows.release(session)

    def update_weights(self, version: int) -> None:
        """The model's weights are now ``version``: latents of the old ones are dropped.

        Weights are shared with the trainer, so nothing is copied. Raises EngineError while requests are in progress.
        """
        if self._waiting or self._rows.num_active:
            raise EngineError(f"cannot take weights {version}: {len(self._in_progress)} requests are in progress")
        self.weight_version = version
        self._rows.forget()

    def score(self, sequences: Sequence[Sequence[int]], *, temperature: float = 1.0) -> list[list[float]]:
        """Log-probability of each token but the first, by plain prefill: a forward without cache a sequence.

        Bit for bit what the trainer's own forward gives for the same row.
        """
        scores = []
        with self._evaluating():
            for sequence in sequences:
                tokens_T = torch.tensor(sequence, device=self._device)
                positions_1T = torch.arange(len(sequence), device=self._device).unsqueeze(0)
                hidden_1TD = self.model.hidden(tokens_T.unsqueeze(0), positions=positions_1T)
                logits_TV = self._head(hidden_1TD[0, :-1]).float()
                logprobs_TV = (logits_TV / temperature).log_softmax(dim=-1)
                scores.append(logprobs_TV.gather(1, tokens_T[1:, None]).squeeze(1).tolist())
        return scores

    def close(self) -> None:
        """Stop: whoever waits gets an EngineError, and so does every later call."""
        self._closed = True
        if self._ticker is not None and not self._ticker.get_loop().is_closed():
            self._ticker.cancel()
        self._ticker = None
        self._fail(EngineError("the engine was closed"))

    def _request(self, token_ids: Sequence[int], sampling: Sampling, session: str | None) -> Request:
        if self._closed:
            raise EngineError("the engine was closed")
        sampler.check(sampling)
        ids: Ints = np.array(token_ids, dtype=np.int64)
        if not len(ids):
            raise ValueError("the prompt is empty: give at least one token")
        if len(ids) > self.config.max_context:
            raise ValueError(f"the prompt has {len(ids)} tokens, engine.max_context is {self.config.max_context}")
        if ids.min() < 0 or ids.max() >= len(self._is_stop_V):
            raise ValueError(f"token ids must lie in 0..{len(self._is_stop_V) - 1}, got {ids.min()}..{ids.max()}")
        self._num_requests += 1
        seed = self._num_requests if sampling.seed is None else sampling.seed % 2**64
        limit = min(len(ids) + sampling.max_tokens, self.config.max_context)
        return Request(ids, sampling, seed, limit, session, asyncio.get_running_loop().create_future())

    # -- the ticking task ---------------------------------------------------------------------

    def _wake(self) -> None:
        """Have a task of the running loop tick. One that an ended loop left behind is replaced."""
        loop = asyncio.get_running_loop()
        ticker = self._ticker
        if ticker is not None and not ticker.done() and ticker.get_loop() is loop:
            return
        self._drop_stranded(loop)
        self._ticker = loop.create_task(self._tick_while_needed())
        self._ticker.add_done_callback(self._ticked)

    async def _tick_while_needed(self) -> None:
        while self._ticker is asyncio.current_task() and (self._waiting or self._rows.num_active):
            self._tick()
            await asyncio.sleep(0)

    def _ticked(self, ticker: asyncio.Task[None]) -> None:
        """Whatever ended the task reaches everyone who still waits."""
        if ticker is not self._ticker:
            return
        self._ticker = None
        if ticker.cancelled():
            self._fail(EngineError("the engine's event loop stopped"))
        elif (cause := ticker.exception()) is not None:
            error = EngineError(f"the engine failed: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
            self._fail(error)
        elif self._waiting:
            self._wake()

    def _fail(self, error: EngineError) -> None:
        """Give up all requests in progress; the engine itself can go on."""
        self._waiting.clear()
        while self._rows.num_active:
            self._rows.retire(self._rows.num_active - 1)
        self._rows.forget()
        for request in self._in_progress:
            if not request.future.done() and not request.future.get_loop().is_closed():
                request.future.set_exception(error)

    def _drop_stranded(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget requests of other event loops: nobody can wait for them any more."""
        for request in [*self._in_progress]:
            if request.future.get_loop() is not loop:
                self._in_progress.discard(request)
                self._withdraw(request)

    def _withdraw(self, request: Request) -> None:
        if request in self._waiting:
            self._waiting.remove(request)
        elif request in self._rows.requests:
            self._rows.retire(self._rows.requests.index(request))

    # -- one tick -----------------------------------------------------------------------------

    def _tick(self) -> None:
        """Admit what fits, then draw one token for every row that was active before or is now."""
        with self._evaluating():
            if self._waiting and self._rows.num_vacant:
                self._admit()
            if self._rows.num_active:
                self._decode()

    def _admit(self) -> None:
        """Prefill waiting requests, in order of arrival, up to the limit of tokens; one at least."""
        groups: dict[bytes, list[Request]] = {}  # requests of equal prompts share one computation
        sizes: dict[bytes, int] = {}
        num_requests = 0
        while self._waiting and num_requests < self._rows.num_vacant:
            request = self._waiting[0]
            if request.key not in groups:
                num_new = len(request.ids) - self._rows.num_kept(request)
                if groups and sum(sizes.values()) + num_new > self.config.prefill_tokens:
                    break
                sizes[request.key], groups[request.key] = num_new, []
            groups[request.key].append(self._waiting.popleft())
            num_requests += 1
        self._rows.reserve([request for group in groups.values() for request in group])
        by_size = sorted(groups, key=sizes.__getitem__)
        # Prompts of a batch are padded to the longest: sizes between two powers of two go together.
        for _, alike in itertools.groupby(by_size, key=lambda key: sizes[key].bit_length()):
            self._prefill([groups[key] for key in alike])

    def _prefill(self, groups: list[list[Request]]) -> None:
        """Start the rows of these groups of equal prompts: one computation a group, one draw a request."""
        first = self._rows.num_active
        for group in groups:
            self._rows.activate(group[0])
        self.num_prefill_tokens += self._rows.num_new(first, len(groups))
        logits_BV = self._forward(first, len(groups))
        sources = list(range(len(groups)))
        for source, group in enumerate(groups):
            for request in group[1:]:
                self._rows.share(first + source, self._rows.activate(request))
                sources.append(source)
        self._draw(first, logits_BV.index_select(0, torch.tensor(sources, device=self._device)))

    def _decode(self) -> None:
        self._draw(0, self._forward(0, self._rows.num_active))

    def _forward(self, first: int, count: int) -> Tensor:
        """Process the tokens of ``count`` rows that have no latents yet; logits after the last of each, [B, V]."""
        table = self._rows.table[first : first + count]
        cached_B1, length_B1 = table["cached"][:, None], table["length"][:, None]
        num_new_B = table["length"] - table["cached"]
        positions_BT = cached_B1 + np.arange(num_new_B.max())
        rows_B1 = np.arange(first, first + count)[:, None]
        tokens_BT = self._rows.tokens_SP[rows_B1, np.minimum(positions_BT, length_B1 - 1)]
        positions_BT[positions_BT >= length_B1] = self.config.max_context  # padding
        positions = torch.from_numpy(positions_BT).to(self._device)
        view = self._latents.view(first, positions, int(table["length"].max()))
        tokens = torch.from_numpy(tokens_BT).to(self._device)
        hidden_BTD = self.model.hidden(tokens, positions=positions, cache=view)
        table["cached"] = table["length"]
        last_B = torch.from_numpy(num_new_B - 1).to(self._device)
        return self._head(hidden_BTD[torch.arange(count, device=self._device), last_B])

    def _draw(self, first: int, logits_BV: Tensor) -> None:
        """Give each row from ``first`` on its next token, and end those that are done."""
        table = self._rows.table[first : first + len(logits_BV)]
        uniforms_B = sampler.uniforms(table["seed"], table["length"].astype(np.uint64))
        temperature_B, top_p_B, top_k_B = (
            torch.tensor(table[name], device=self._device) for name in ("temperature", "top_p", "top_k")
        )
        tokens_B, logprobs_B = sampler.draw(
            logits_BV, temperature_B, top_p_B, top_k_B, torch.from_numpy(uniforms_B).to(self._device)
        )
        tokens = tokens_B.cpu().numpy()
        self._rows.append(first, tokens, logprobs_B.cpu().numpy())
        self.num_sampled_tokens += len(tokens)
        stopped_B = self._is_stop_V[tokens]
        for i in np.flatnonzero(stopped_B | (table["length"] >= table["limit"]))[::-1]:
            request, token_ids, logprobs = self._rows.retire(first + int(i))
            reason: Literal["stop", "length"] = "stop" if stopped_B[i] else "length"
            request.future.set_result(Sampled(token_ids, logprobs, reason, self.weight_version))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """No gradient, and evaluation mode: training mode would count these tokens as the trainer's."""
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if training:
                self.model.train()
