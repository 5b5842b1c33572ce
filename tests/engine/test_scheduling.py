"""Chunks, pages running out, streams, pauses, stops and grammars: always against the plain forward."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.engine.request import Drawn, Paused
from openk2.model.moe import Routing
from openk2.model.transformer import Transformer
from openk2.schema import Sampled, Sampling
from openk2.text.chat import ChatFormat
from openk2.text.config import TokenizerConfig
from openk2.text.tokenizer import Tokenizer
from tests.engine.conftest import MODEL, make_engine
from tests.engine.test_engine import GREEDY, gather, prompt, recomputed

SAMPLED = Sampling(max_tokens=25, seed=3)


def close(model: Transformer, ids: list[int], sampled: Sampled) -> None:
    torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(model, ids, sampled), atol=1e-4, rtol=0)


@pytest.mark.parametrize("prefill", [1, 7, 16, 50])
def test_prompts_in_chunks_give_the_same(model: Transformer, prefill: int) -> None:
    engine = make_engine(model, prefill=prefill)
    calls = [(prompt(i, 10 + 30 * i), replace(SAMPLED, seed=i)) for i in range(4)]
    for (ids, _), sampled in zip(calls, gather(engine, *calls), strict=True):
        close(model, ids, sampled)


def test_others_draw_while_a_long_prompt_is_computed(model: Transformer) -> None:
    engine = make_engine(model, prefill=8)

    async def run() -> int:
        first = engine.submit(prompt(0, 5), GREEDY)
        await anext(aiter(first))
        long = asyncio.create_task(engine.sample(prompt(1, 200), replace(GREEDY, max_tokens=1)))
        await first.result()
        assert not long.done()
        return len((await long).token_ids)

    assert asyncio.run(run()) == 1


def test_when_pages_run_out_the_youngest_waits_and_nothing_changes(model: Transformer) -> None:
    calls = [(prompt(i, 20), Sampling(max_tokens=80, seed=i)) for i in range(6)]
    config = EngineConfig(max_rows=6, max_context=112, page_tokens=8, cache_tokens=240)
    engine = Engine(model, None, config, stop_ids=frozenset())
    for (ids, _), sampled in zip(calls, gather(engine, *calls), strict=True):
        assert len(sampled.token_ids) == 80
        close(model, ids, sampled)
    assert engine._scheduler.num_preemptions > 0


def test_tokens_stream_as_they_are_drawn(model: Transformer) -> None:
    engine = make_engine(model)

    async def run() -> tuple[list[Drawn], Sampled]:
        generation = engine.submit(prompt(0, 40), SAMPLED, top_logprobs=3)
        seen = []
        async for drawn in generation:
            seen.append(drawn)
            if len(seen) == 3:
                assert not generation._done.done()
        return seen, await generation.result()

    seen, sampled = asyncio.run(run())
    assert [drawn.token_id for drawn in seen] == sampled.token_ids
    assert [drawn.logprob for drawn in seen] == sampled.logprobs
    for drawn in seen:
        assert len(drawn.top) == 3
        assert drawn.top[0][1] >= drawn.logprob


def test_prompts_are_scored_with_their_most_probable_tokens(model: Transformer) -> None:
    engine, ids = make_engine(model), prompt(0, 20)
    scored = asyncio.run(engine.score_prompt(ids, 2))
    assert [drawn.token_id for drawn in scored] == ids[1:]
    assert [drawn.logprob for drawn in scored] == engine.score([ids])[0]
    assert all(drawn.top[0][1] >= drawn.top[1][1] for drawn in scored)


@pytest.mark.parametrize("keep_latents", [True, False])
def test_a_pause_changes_nothing(model: Transformer, keep_latents: bool, tmp_path: Path) -> None:
    ids = prompt(0, 40)
    whole = gather(make_engine(model), (ids, SAMPLED))[0]

    async def pause() -> tuple[Paused, Sampled]:
        engine = make_engine(model)
        generation = engine.submit(ids, SAMPLED)
        stream = aiter(generation)
        for _ in range(9):
            await anext(stream)
        paused = await generation.pause(keep_latents=keep_latents)
        return paused, await generation.result()

    paused, before = asyncio.run(pause())
    assert before.stop_reason == "abort"
    paused.save(tmp_path / "request.safetensors")
    loaded = Paused.load(tmp_path / "request.safetensors")
    assert loaded.token_ids == paused.token_ids
    engine = make_engine(model)  # another process's, as far as it knows

    async def resume() -> Sampled:
        return await engine.resume(loaded).result()

    after = asyncio.run(resume())
    assert before.token_ids + after.token_ids == whole.token_ids
    close(model, ids + before.token_ids, after)
    assert engine.num_prefill_tokens == (0 if keep_latents else len(loaded.token_ids))


def test_latents_of_other_weights_are_not_used(model: Transformer) -> None:
    changed = copy.deepcopy(model)
    engine, ids = make_engine(changed), prompt(0, 40)

    async def run() -> tuple[list[int], Sampled]:
        generation = engine.submit(ids, SAMPLED)
        await anext(aiter(generation))
        paused = await generation.pause()
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.mul_(1.1)
        engine.update_weights(1)
        return paused.token_ids, await engine.resume(paused).result()

    close(changed, *asyncio.run(run()))


def test_latents_of_weights_that_come_while_waiting_are_not_used(model: Transformer) -> None:
    changed = copy.deepcopy(model)
    engine, ids = make_engine(changed), prompt(0, 40)

    async def run() -> tuple[list[int], Sampled]:
        generation = engine.submit(ids, SAMPLED)
        await anext(aiter(generation))
        paused = await generation.pause()
        engine.sleep()
        resumed = engine.resume(paused)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.mul_(1.1)
        engine.update_weights(1)
        return paused.token_ids, await resumed.result()

    close(changed, *asyncio.run(run()))


def test_another_models_latents_are_not_used(model: Transformer) -> None:
    other = Transformer(MODEL).initialize(5)
    paused = asyncio.run(pause_after(make_engine(other), prompt(0, 40), 3))
    engine = make_engine(model)

    async def resume() -> Sampled:
        return await engine.resume(paused).result()

    close(model, paused.token_ids, asyncio.run(resume()))


def test_experts_of_a_resumed_request_are_right(model: Transformer) -> None:
    config = EngineConfig(max_rows=2, max_context=128, record_experts=True)
    ids = prompt(0, 40)
    paused = asyncio.run(pause_after(Engine(model, None, config, stop_ids=frozenset()), ids, 9))
    engine = Engine(model, None, config, stop_ids=frozenset())

    async def resume() -> Sampled:
        await engine.resume(paused).result()
        return await engine.sample(ids, SAMPLED, experts=True)

    async def plain() -> Sampled:
        return await Engine(model, None, config, stop_ids=frozenset()).sample(ids, SAMPLED, experts=True)

    assert np.array_equal(asyncio.run(resume()).experts, asyncio.run(plain()).experts)


async def pause_after(engine: Engine, ids: list[int], num_tokens: int) -> Paused:
    generation = engine.submit(ids, SAMPLED)
    stream = aiter(generation)
    for _ in range(num_tokens):
        await anext(stream)
    return await generation.pause()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents_NTL": torch.zeros(1, 5, 20)}, r"finite numbers \[3, up to"),
        ({"latents_NTL": torch.full((3, 5, 20), torch.nan)}, "finite numbers"),
        ({"latents_NTL": torch.zeros(3, 500, 20)}, "finite numbers"),
        ({"num_given": 9999}, "was not given 9999"),
        ({"top_logprobs": -1}, "top_logprobs must be 0"),
        ({"token_ids": [1.5]}, "list of token ids"),
    ],
)
def test_a_state_that_cannot_be_is_refused(model: Transformer, change: dict[str, Any], message: str) -> None:
    paused = asyncio.run(pause_after(make_engine(model), prompt(0, 40), 3))

    async def resume() -> None:
        make_engine(model).resume(replace(paused, **change))

    with pytest.raises(ValueError, match=message):
        asyncio.run(resume())


@pytest.mark.parametrize("change", [{"seed": -1}, {"limit": "50"}, {"token_ids": ["a"]}, {"more": 1}])
def test_a_tampered_file_is_refused(model: Transformer, change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "paused"
    asyncio.run(pause_after(make_engine(model), prompt(0, 40), 3)).save(path)
    with safe_open(path, "pt") as file:
        state, latents = json.loads(file.metadata()["paused"]), file.get_tensor("latents")
    save_file({"latents": latents}, path, metadata={"paused": json.dumps(state | change)})
    with pytest.raises(ValueError, match="is no paused request"):
        Paused.load(path)


def test_a_damaged_pause_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "paused"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="paused is no paused request"):
        Paused.load(path)


def test_aborting_ends_with_what_was_drawn(model: Transformer) -> None:
    engine = make_engine(model, slots=1)

    async def run() -> tuple[Sampled, Sampled]:
        running = engine.submit(prompt(0, 5), replace(GREEDY, max_tokens=200))
        waiting = engine.submit(prompt(1, 5), GREEDY)
        await anext(aiter(running))
        waiting.abort()
        running.abort()
        running.abort()
        return await running.result(), await waiting.result()

    running, waiting = asyncio.run(run())
    assert (running.stop_reason, waiting.stop_reason) == ("abort", "abort")
    assert 1 <= len(running.token_ids) < 200
    assert waiting.token_ids == []
    assert engine.num_running == engine.num_waiting == 0


def test_experts_are_those_of_the_plain_forward_and_replay(model: Transformer) -> None:
    config = EngineConfig(max_rows=4, max_context=128, record_experts=True)
    engine, ids = Engine(model, None, config, stop_ids=frozenset()), prompt(0, 40)

    async def run() -> Sampled:
        await engine.sample(ids[:35], GREEDY)  # so that most of the prompt comes from the cache
        return await engine.sample(ids, SAMPLED, experts=True)

    sampled = asyncio.run(run())
    tokens = torch.tensor([ids + sampled.token_ids[:-1]])
    routing = Routing()
    model.eval()
    with torch.no_grad():
        model(tokens, positions=torch.arange(tokens.shape[1])[None], routing=routing)
    model.train()
    assert sampled.experts is not None
    recorded_TNK = torch.from_numpy(sampled.experts)
    assert recorded_TNK.shape == (tokens.shape[1], 3, 2)
    for layer, chosen_1TK in routing.experts.items():
        assert torch.equal(recorded_TNK[:, layer].sort(-1).values, chosen_1TK[0].sort(-1).values)
    with pytest.raises(ValueError, match="record_experts"):
        asyncio.run(make_engine(model).sample(ids, SAMPLED, experts=True))


class OnlyEven:
    """A grammar: even tokens alone."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def allowed(self) -> np.ndarray:
        return np.arange(MODEL.vocab_size) % 2 == 0

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)


class Broken(OnlyEven):
    """A grammar that gives up after a token, or has another vocabulary."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def allowed(self) -> np.ndarray:
        return super().allowed()[: 5 if self.how == "narrow" else None] & (self.how != "nothing")

    def accept(self, token_id: int) -> None:
        if self.how == "raises":
            raise RuntimeError("the grammar gave up")


@pytest.mark.parametrize(
    ("how", "message"), [("narrow", "at least one of 97"), ("nothing", "at least one of 97"), ("raises", "gave up")]
)
def test_a_broken_grammar_ends_its_own_request_alone(model: Transformer, how: str, message: str) -> None:
    engine, ids = make_engine(model), prompt(0, 10)

    async def run() -> Sampled:
        bystander = engine.submit(prompt(1, 10), SAMPLED)
        with pytest.raises((ValueError, RuntimeError), match=message):
            await engine.submit(ids, SAMPLED, constraint=Broken(how)).result()
        return await bystander.result()

    close(model, prompt(1, 10), asyncio.run(run()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers_are_named_and_leave_nothing_behind(model: Transformer, dtype: torch.dtype) -> None:
    """Float32 decodes compiled, bfloat16 through PyTorch, where a masked NaN would spread."""
    broken = copy.deepcopy(model).to(dtype)
    engine = make_engine(broken)
    calls = [(prompt(i, 20 + 15 * i), replace(SAMPLED, temperature=float(i % 2))) for i in range(4)]
    with torch.no_grad():
        good = broken.norm.weight.clone()
        broken.layers["0"].input_layernorm.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        gather(engine, *calls)
    with torch.no_grad():
        broken.layers["0"].input_layernorm.weight.copy_(good)
    engine.update_weights(1)
    again = make_engine(broken)
    for sampled, expected in zip(gather(engine, *calls), gather(again, *calls), strict=True):
        assert sampled.token_ids == expected.token_ids


def test_a_model_of_another_type_is_taken_with_the_weights(model: Transformer) -> None:
    changed = copy.deepcopy(model)
    engine, ids = make_engine(changed), prompt(0, 30)
    gather(engine, (ids, GREEDY))
    changed.double()
    changed.lm_head = copy.deepcopy(changed.lm_head)
    with torch.no_grad():
        changed.lm_head.weight.mul_(2.0)
    engine.update_weights(1)
    close(changed.float(), ids, gather(make_engine(changed), (ids, GREEDY))[0])
    engine.update_weights(2)
    close(changed, ids, gather(engine, (ids, GREEDY))[0])


def test_a_grammar_is_followed(model: Transformer) -> None:
    engine, grammar, ids = make_engine(model), OnlyEven(), prompt(0, 10)

    async def run() -> tuple[Sampled, Sampled]:
        free = engine.submit(ids, SAMPLED)
        bound = engine.submit(ids, SAMPLED, constraint=grammar)
        with pytest.raises(ValueError, match="follows a grammar"):
            await bound.pause()
        return await free.result(), await bound.result()

    free, bound = asyncio.run(run())
    assert all(token % 2 == 0 for token in bound.token_ids)
    assert grammar.accepted == bound.token_ids
    assert any(token % 2 for token in free.token_ids)
    close(model, ids, bound)


@pytest.fixture(scope="session")
def chat_format() -> ChatFormat:
    texts = ["the quick brown fox jumps over the lazy dog. été — 漢字\n"] * 50
    return ChatFormat(Tokenizer.train(texts, TokenizerConfig(vocab_size=360)))


def test_a_text_ends_the_answer_wherever_it_lies_across_tokens(chat_format: ChatFormat) -> None:
    model = Transformer(MODEL.model_copy(update={"vocab_size": chat_format.tokenizer.vocab_size})).initialize(1)
    engine = Engine(model, chat_format, EngineConfig(max_rows=4, max_context=256), stop_ids=frozenset())
    ids = chat_format.tokenizer.encode("the quick")
    free = gather(engine, (ids, SAMPLED))[0]
    decode = chat_format.tokenizer.decode
    text = decode(free.token_ids)
    for start, stop in ((3, 6), (8, 20), (len(text) // 2, len(text) // 2 + 1)):
        wanted = text[start:stop]
        sampled = gather(engine, (ids, replace(SAMPLED, stop=("never there", wanted))))[0]
        assert (sampled.stop_reason, sampled.stop_text) == ("stop", wanted)
        assert free.token_ids[: len(sampled.token_ids)] == sampled.token_ids
        assert wanted in decode(sampled.token_ids)
        assert wanted not in decode(sampled.token_ids[:-1])
    with pytest.raises(ValueError, match="empty text"):
        gather(engine, (ids, replace(SAMPLED, stop=("",))))


def test_a_text_without_a_tokenizer_is_refused(model: Transformer) -> None:
    with pytest.raises(ValueError, match="need a chat format"):
        gather(make_engine(model), (prompt(0, 5), replace(GREEDY, stop=("x",))))


def test_a_sleeping_engine_holds_no_cache_and_wakes_by_itself(model: Transformer) -> None:
    engine, ids = make_engine(model), prompt(0, 40)
    before = gather(engine, (ids, SAMPLED))[0]
    assert engine.num_cache_bytes > 0
    engine.sleep()
    assert engine.num_cache_bytes == 0
    after = gather(engine, (ids, SAMPLED))[0]
    assert after.token_ids == before.token_ids
    assert engine.num_prefill_tokens == 80


def test_a_threaded_engine_leaves_the_loop_free(model: Transformer) -> None:
    config = EngineConfig(max_rows=8, max_context=256)
    engine = Engine(model, None, config, stop_ids=frozenset(), threaded=True)
    calls = [(prompt(i, 5 + i), Sampling(max_tokens=100, seed=i)) for i in range(8)]
    pauses: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            pauses.append(time.perf_counter() - before)

    async def run() -> list[Sampled]:
        beating = asyncio.create_task(beat())
        samples = await asyncio.gather(*(engine.sample(ids, sampling) for ids, sampling in calls))
        engine.update_weights(1)
        assert engine.score([[1, 2, 3]]) == [[drawn.logprob for drawn in await engine.score_prompt([1, 2, 3])]]
        beating.cancel()
        return samples

    for (ids, _), sampled in zip(calls, asyncio.run(run()), strict=True):
        close(model, ids, sampled)
    assert len(pauses) > 500  # a loop that waited for the steps would have turned about a hundred times
    engine.close()


def test_many_requests_of_all_sorts_at_once(model: Transformer) -> None:
    """Shared prompts, aborts and little room: whoever finishes is exact, and nothing stays behind."""
    config = EngineConfig(max_rows=5, max_context=128, page_tokens=4, cache_tokens=300, prefill_tokens=20)
    engine, rng = Engine(model, None, config, stop_ids=frozenset({1, 2})), random.Random(0)
    stems = [prompt(i, 30) for i in range(3)]

    async def one(number: int) -> None:
        ids = rng.choice(stems)[: rng.randrange(1, 31)] + prompt(number, rng.randrange(0, 20))
        generation = engine.submit(ids, Sampling(max_tokens=rng.randrange(1, 60), seed=number))
        if number % 4 == 0:
            for _ in range(rng.randrange(30)):
                await asyncio.sleep(0)
            generation.abort()
        close(model, ids, await generation.result())

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(80))), 60)

    asyncio.run(run())
    assert engine.num_running == engine.num_waiting == 0
    assert engine._scheduler._pool.num_available == config.num_pages
