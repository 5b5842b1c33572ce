"""The engine: many conversations sampled together, on the trainer's own weights (K2 §3.3).

Shapes: T tokens, D model, V vocabulary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from openk2.engine import sampler
from openk2.engine.config import EngineConfig
from openk2.engine.generation import Generation
from openk2.engine.pages import Ints
from openk2.engine.request import Constraint, Drawn, Paused, Request
from openk2.engine.scheduler import Scheduler
from openk2.engine.stops import StopWatch
from openk2.model.transformer import Transformer
from openk2.schema import Message, Sampled, Sampling, ToolSpec
from openk2.text.chat import ChatFormat

T = TypeVar("T")


class EngineError(RuntimeError):
    """The engine broke down or was closed while someone waited for it."""


class Engine:
    """A ``Policy`` over a model in this process: continuous batching over a paged, shared latent cache.

    While requests wait, one task in the caller's event loop has the scheduler step. Between events it holds no task,
    so that any event loop can use it next; two loops at the same time cannot.
    """

    def __init__(
        self,
        model: Transformer,
        chat_format: ChatFormat | None,
        config: EngineConfig,
        *,
        stop_ids: frozenset[int] | None = None,
        threaded: bool = False,
    ) -> None:
        """``stop_ids`` end a turn; None means those of the chat format. Raises ValueError for a context too long.

        ``threaded``: step in a thread of its own, so that the event loop answers others meanwhile (a server). What is
        batched together then depends on the clock; without it, the same calls give the same batches.
        """
        if config.max_context > model.config.max_positions:
            raise ValueError(
                f"engine.max_context {config.max_context} exceeds the model's max_positions {model.config.max_positions}"
            )
        if config.record_experts and not model.config.num_experts:
            raise ValueError("engine.record_experts: this model has no experts")
        self.model, self.chat_format, self.config = model, chat_format, config
        if stop_ids is None:
            stop_ids = frozenset() if chat_format is None else chat_format.stop_ids
        self._scheduler = Scheduler(model, config, stop_ids)
        self._thread = ThreadPoolExecutor(1, "openk2-engine") if threaded else None
        self._generations: dict[Request, Generation] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._num_requests = 0
        self._closed = False

    # -- what it has done ---------------------------------------------------------------------

    @property
    def pad_id(self) -> int:
        """What fills a row: the tokenizer's padding, 0 where there is none."""
        return 0 if self.chat_format is None else self.chat_format.tokenizer.pad_id

    @property
    def weight_version(self) -> int:
        """Of the weights that draw."""
        return self._scheduler.weight_version

    @property
    def num_running(self) -> int:
        """Requests being computed."""
        return self._scheduler.rows.num_active

    @property
    def num_waiting(self) -> int:
        """Requests that have no row yet."""
        return self._scheduler.num_waiting

    @property
    def num_sampled_tokens(self) -> int:
        """Tokens drawn so far."""
        return self._scheduler.num_sampled_tokens

    @property
    def num_prefill_tokens(self) -> int:
        """Prompt tokens computed so far."""
        return self._scheduler.num_prefill_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens found in the cache so far."""
        return self._scheduler.num_cached_tokens

    @property
    def num_cache_bytes(self) -> int:
        """Memory the cache may come to take; 0 before the first request and while asleep."""
        return self._scheduler.num_cache_bytes

    # -- what it can be asked -----------------------------------------------------------------

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """The next assistant message. Raises ValueError without a chat format."""
        if self.chat_format is None:
            raise ValueError("complete() needs a chat format; this engine was made without one")
        sampled = await self.sample(self.chat_format.prompt(messages, tools), sampling)
        return self.chat_format.parse(sampled.token_ids)

    async def sample(self, token_ids: Sequence[int], sampling: Sampling, *, experts: bool = False) -> Sampled:
        """``submit``, and wait for the result."""
        return await self.submit(token_ids, sampling, experts=experts).result()

    def submit(
        self,
        token_ids: Sequence[int],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        experts: bool = False,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Continue ``token_ids`` until a stop id (which is part of the result), a stop text, ``max_tokens`` or the full context.

        How the tokens begin is looked up in the cache: only what is new is computed. Without a seed, the request's
        number is its seed.

        Args:
            token_ids: the prompt.
            sampling: how to draw.
            top_logprobs: how many of the most probable tokens to tell in each place.
            experts: tell the experts each token went to (None where the prompt fills the context, so that nothing is
                computed); wants ``record_experts``.
            constraint: a grammar to follow.

        Raises:
            ValueError: a prompt that is empty or longer than ``max_context``, ids out of range, an impossible ``sampling``.
            EngineError: the engine was closed.
        """
        ids = self._ids(token_ids)
        self._num_requests += 1
        seed = self._num_requests if sampling.seed is None else sampling.seed % 2**64
        limit = min(len(ids) + sampling.max_tokens, self.config.max_context)
        request = Request(ids, sampling, seed, limit, len(ids), top_logprobs, experts, constraint)
        return self._start(request)

    def resume(self, paused: Paused) -> Generation:
        """Go on with a paused request: the tokens still to come. Raises as ``submit``, also for a state that cannot be."""
        ids = self._ids(paused.token_ids)
        if not 0 <= paused.num_given <= len(ids):
            raise ValueError(f"a paused request of {len(ids)} tokens was not given {paused.num_given}")
        request = Request(
            ids,
            paused.sampling,
            paused.seed,
            min(paused.limit, self.config.max_context),
            paused.num_given,
            paused.top_logprobs,
            paused.wants_experts,
        )
        if paused.latents_NTL is not None:
            self._check_latents(paused.latents_NTL, len(ids))
            request.latents_NTL, request.fingerprint = paused.latents_NTL, paused.fingerprint
        return self._start(request)

    def update_weights(self, version: int) -> None:
        """The model's weights are now ``version``: what the old ones computed is dropped.

        Weights are shared with the trainer, so nothing is copied. Requests in progress go on under the new weights,
        their tokens so far computed anew.
        """
        self._run(lambda: self._scheduler.take_weights(version))

    def sleep(self) -> None:
        """Give the cache's memory to the trainer. The next request wakes the engine."""
        self._run(self._scheduler.sleep)

    def score(self, sequences: Sequence[Sequence[int]], *, temperature: float = 1.0) -> list[list[float]]:
        """Log-probability of each token but the first, by plain prefill: a forward without cache a sequence.

        Bit for bit what the trainer's own forward gives for the same row. Raises ValueError for sequences that
        ``submit`` would refuse, and for a temperature of 0.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0 to score, got {temperature}")
        for sequence in sequences:
            self._ids(sequence)
        return self._run(lambda: [self._score(sequence, temperature, 0)[0] for sequence in sequences])

    async def score_prompt(self, token_ids: Sequence[int], top_logprobs: int = 0) -> list[Drawn]:
        """``score`` of one prompt with the most probable tokens in each place. Raises as ``submit``."""
        self._ids(token_ids)

        def score() -> tuple[list[float], list[list[tuple[int, float]]]]:
            return self._score(token_ids, 1.0, top_logprobs)

        if self._thread is None:
            logprobs, tops = self._run(score)
        else:
            self._check_open()
            logprobs, tops = await asyncio.get_running_loop().run_in_executor(self._thread, score)
        return [Drawn(*drawn) for drawn in zip(token_ids[1:], logprobs, tops, strict=True)]

    def close(self) -> None:
        """Stop: whoever waits gets an EngineError, and so does every later call but this one."""
        if self._closed:
            return
        if self._ticker is not None and not self._ticker.get_loop().is_closed():
            self._ticker.cancel()
        self._ticker = None
        self._fail(EngineError("the engine was closed"))
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown()

    def _start(self, request: Request) -> Generation:
        self._check_open()
        sampler.check(request.sampling)
        if request.top_logprobs < 0:
            raise ValueError(f"top_logprobs must be 0 or more, got {request.top_logprobs}")
        if request.wants_experts and not self.config.record_experts:
            raise ValueError("experts: this engine does not record them; set engine.record_experts")
        if request.sampling.stop:
            if self.chat_format is None:
                raise ValueError("sampling.stop: texts need a chat format; this engine was made without one")
            before = request.prompt[request.num_given :].tolist()
            request.stops = StopWatch(self.chat_format.tokenizer, request.sampling.stop, before)
        generation = Generation(request)
        if request.limit <= len(request.prompt):
            request.finish("length", self.weight_version)
            generation.tell()
            return generation
        self._wake()
        self._generations[request] = generation
        self._scheduler.add(request)
        return generation

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine was closed")

    def _ids(self, token_ids: Sequence[int]) -> Ints:
        """A prompt as an array. Raises ValueError for what is none."""
        ids: Ints = np.asarray(token_ids)
        if not ids.size:
            raise ValueError("the prompt is empty: give at least one token")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"a prompt is a list of token ids, got {ids.dtype} of shape {list(ids.shape)}")
        ids, vocab_size = ids.astype(np.int64), self.model.config.vocab_size
        if len(ids) > self.config.max_context:
            raise ValueError(f"the prompt has {len(ids)} tokens, engine.max_context is {self.config.max_context}")
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise ValueError(f"token ids must lie in 0..{vocab_size - 1}, got {ids.min()}..{ids.max()}")
        return ids

    def _check_latents(self, latents_NTL: Tensor, num_tokens: int) -> None:
        c = self.model.config
        layers, width = c.num_layers, c.kv_lora_rank + c.qk_rope_head_dim
        shape = tuple(latents_NTL.shape)
        fits = len(shape) == 3 and (shape[0], shape[2]) == (layers, width) and shape[1] <= num_tokens
        if not (fits and latents_NTL.is_floating_point() and latents_NTL.isfinite().all()):
            raise ValueError(
                f"paused latents must be finite numbers [{layers}, up to {num_tokens}, {width}], "
                f"got {latents_NTL.dtype} {list(shape)}"
            )

    def _score(
        self, sequence: Sequence[int], temperature: float, top_logprobs: int
    ) -> tuple[list[float], list[list[tuple[int, float]]]]:
        with self._evaluating():
            assert self.model.lm_head is not None
            device = self.model.lm_head.weight.device
            tokens_T = torch.tensor(sequence, device=device)
            positions_1T = torch.arange(len(sequence), device=device).unsqueeze(0)
            hidden_1TD = self.model.hidden(tokens_T.unsqueeze(0), positions=positions_1T)
            logits_TV: Tensor = self.model.lm_head(hidden_1TD[0, :-1]).float()
            logprobs_TV = (logits_TV / temperature).log_softmax(dim=-1)
            tops = [sampler.most_probable(row_V, top_logprobs) if top_logprobs else [] for row_V in logprobs_TV]
            return logprobs_TV.gather(1, tokens_T[1:, None]).squeeze(1).tolist(), tops

    # -- the ticking task ---------------------------------------------------------------------

    def _run(self, call: Callable[[], T]) -> T:
        """Do something between two steps."""
        self._check_open()
        return call() if self._thread is None else self._thread.submit(call).result()

    def _wake(self) -> None:
        """Have a task of the running loop tick. One that an ended loop left behind is replaced."""
        loop = asyncio.get_running_loop()
        ticker = self._ticker
        if ticker is not None and not ticker.done():
            if ticker.get_loop() is loop:
                return
            if ticker.get_loop().is_running():
                raise EngineError("another event loop uses this engine at the moment")
        self._drop_stranded(loop)
        self._ticker = loop.create_task(self._tick_while_needed())
        self._ticker.add_done_callback(self._ticked)

    async def _tick_while_needed(self) -> None:
        loop = asyncio.get_running_loop()
        while self._ticker is asyncio.current_task() and not self._scheduler.idle:
            news = self._step() if self._thread is None else await loop.run_in_executor(self._thread, self._step)
            for request in news:
                self._tell(request)
            await asyncio.sleep(0)

    def _step(self) -> list[Request]:
        with self._evaluating():
            return self._scheduler.step()

    def _tell(self, request: Request) -> None:
        generation = self._generations.get(request)
        if generation is None:
            return
        if request.result is not None:
            del self._generations[request]
        if not generation.loop.is_closed():
            generation.tell()

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
        elif not self._scheduler.idle:
            self._wake()

    def _fail(self, error: EngineError) -> None:
        """Give up all requests in progress; the engine itself can go on."""
        self._run(self._scheduler.drop_all)
        generations, self._generations = self._generations, {}
        for generation in generations.values():
            if not generation.loop.is_closed():
                generation.fail(error)

    def _drop_stranded(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel requests of other event loops: nobody can wait for them any more."""
        for request, generation in self._generations.items():
            if generation.loop is not loop:
                request.cancelled = True

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
