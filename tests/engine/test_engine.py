from __future__ import annotations

import asyncio
import copy
import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from openk2.engine.engine import Engine, EngineError
from openk2.engine.runner import Runner
from openk2.model.transformer import Transformer
from openk2.schema import Policy, Sampled, Sampling
from tests.engine.conftest import full_logits, make_engine

GREEDY = Sampling(temperature=0.0, max_tokens=20)


def prompt(seed: int, length: int) -> list[int]:
    return [random.Random(seed * 1000 + length).randrange(1, 97) for _ in range(length)]


def recomputed(model: Transformer, ids: list[int], sampled: Sampled, temperature: float = 1.0) -> torch.Tensor:
    logits = full_logits(model, ids + sampled.token_ids)[len(ids) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(sampled.token_ids)[:, None]).squeeze(1)


def gather(engine: Engine, *calls: tuple[list[int], Sampling]) -> list[Sampled]:
    async def run() -> list[Sampled]:
        return await asyncio.gather(*(engine.sample(ids, sampling) for ids, sampling in calls))

    return asyncio.run(run())


def test_greedy_is_the_argmax_of_the_full_forward(model: Transformer) -> None:
    engine = make_engine(model)
    calls = [(prompt(i, length), GREEDY) for i, length in enumerate((1, 5, 17, 40, 41, 100))]
    for (ids, _), sampled in zip(calls, gather(engine, *calls), strict=True):
        logits = full_logits(model, ids + sampled.token_ids)[len(ids) - 1 : -1]
        assert sampled.token_ids == logits.argmax(-1).tolist()
        assert len(sampled.token_ids) == 20
        assert sampled.stop_reason == "length"
        torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(model, ids, sampled), atol=1e-4, rtol=0)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_logprobs_equal_the_trainers(model: Transformer, temperature: float) -> None:
    engine = make_engine(model, prefill=64)
    calls = [(prompt(i, 3 + 9 * i), Sampling(temperature=temperature, max_tokens=30 - i, seed=i)) for i in range(12)]
    for (ids, _), sampled in zip(calls, gather(engine, *calls), strict=True):
        expected = recomputed(model, ids, sampled, temperature)
        torch.testing.assert_close(torch.tensor(sampled.logprobs), expected, atol=1e-4, rtol=0)


def test_is_a_policy(model: Transformer) -> None:
    assert isinstance(make_engine(model), Policy)


@pytest.mark.parametrize("prefill", [1, 4096])
def test_a_draw_does_not_depend_on_the_batch(model: Transformer, prefill: int) -> None:
    calls = [(prompt(i, 4 + 7 * i), Sampling(max_tokens=12 + i, seed=100 + i)) for i in range(6)]
    calls[3] = (calls[3][0], replace(calls[3][1], top_p=0.8, top_k=20))
    together = gather(make_engine(model, slots=4, prefill=prefill), *calls)
    alone = [gather(make_engine(model), call)[0] for call in reversed(calls)][::-1]
    assert [sampled.token_ids for sampled in together] == [sampled.token_ids for sampled in alone]


def test_equal_prompts_are_computed_once_and_drawn_apart(model: Transformer) -> None:
    engine = make_engine(model)
    ids = prompt(3, 40)
    samples = gather(engine, *((ids, Sampling(max_tokens=20, seed=i)) for i in range(6)))
    assert engine.num_prefill_tokens == 40
    assert len({tuple(sampled.token_ids) for sampled in samples}) == 6
    for sampled in samples:
        torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(model, ids, sampled), atol=1e-4, rtol=0)


def test_seeds_repeat_and_a_missing_seed_is_the_number_of_the_request(model: Transformer) -> None:
    ids = prompt(0, 10)
    seeded, unseeded = Sampling(max_tokens=16, seed=5), Sampling(max_tokens=16)
    first, second, third, fourth = gather(make_engine(model), *((ids, s) for s in (seeded, seeded, unseeded, unseeded)))
    assert first == second
    assert len({tuple(sampled.token_ids) for sampled in (first, third, fourth)}) == 3


def test_ended_rows_sample_no_more(model: Transformer) -> None:
    stop = frozenset(range(1, 30))
    engine = make_engine(model, stop=stop)
    samples = gather(engine, *((prompt(i, 10), Sampling(max_tokens=30, seed=i)) for i in range(20)))
    assert engine.num_sampled_tokens == sum(len(sampled.token_ids) for sampled in samples)
    assert {sampled.stop_reason for sampled in samples} == {"stop"}
    for sampled in samples:
        assert sampled.token_ids[-1] in stop
        assert not stop & set(sampled.token_ids[:-1])


def test_the_context_limit_ends_a_row(model: Transformer) -> None:
    engine = make_engine(model, context=32)
    near, full = gather(engine, (prompt(0, 30), GREEDY), (prompt(0, 32), GREEDY))
    assert (len(near.token_ids), near.stop_reason) == (2, "length")
    assert (full.token_ids, full.stop_reason) == ([], "length")


async def episode(
    engine: Engine, number: int, turns: int, rng: random.Random, max_tokens: int = 20
) -> list[tuple[list[int], Sampled]]:
    """Several turns, each continuing the tokens of the last; what came in and out."""
    ids, seen = prompt(number, rng.randrange(3, 40)), []
    for turn in range(turns):
        sampling = Sampling(max_tokens=rng.randrange(1, max_tokens), seed=number * 100 + turn)
        sampled = await engine.sample(ids, sampling)
        seen.append((list(ids), sampled))
        for _ in range(rng.randrange(3)):  # an environment that takes its time
            await asyncio.sleep(0)
        ids = ids + sampled.token_ids + prompt(number + 1, rng.randrange(1, 8))
    return seen


def test_a_later_turn_computes_only_what_is_new(model: Transformer) -> None:
    engine = make_engine(model)
    seen = asyncio.run(episode(engine, 1, 4, random.Random(0)))
    # Each turn but the first also takes in the last token of the turn before, which nothing followed.
    new = [
        len(ids) - (len(seen[i - 1][0] + seen[i - 1][1].token_ids) - 1 if i else 0) for i, (ids, _) in enumerate(seen)
    ]
    assert engine.num_prefill_tokens == sum(num for num in new if num > 1)
    assert engine.num_cached_tokens == sum(len(ids) - num for (ids, _), num in zip(seen, new, strict=True))
    for ids, sampled in seen:
        torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(model, ids, sampled), atol=1e-4, rtol=0)


def test_a_prompt_is_shared_as_far_as_it_is_the_same(model: Transformer) -> None:
    engine = make_engine(model)
    first = prompt(0, 50)
    second = first[:37] + prompt(1, 20)
    gather(engine, (first, GREEDY))
    sampled = gather(engine, (second, GREEDY))[0]
    assert engine.num_cached_tokens == 37  # two whole pages, and five tokens of the third
    torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(model, second, sampled), atol=1e-4, rtol=0)


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_episodes_are_exact_however_many_slots_there_are(model: Transformer, slots: int) -> None:
    engine = make_engine(model, slots=slots)
    rng = random.Random(1)

    async def run() -> list[list[tuple[list[int], Sampled]]]:
        return await asyncio.gather(*(episode(engine, i, 3, rng) for i in range(8)))

    for seen in asyncio.run(run()):
        for ids, sampled in seen:
            expected = recomputed(model, ids, sampled)
            torch.testing.assert_close(torch.tensor(sampled.logprobs), expected, atol=1e-4, rtol=0)


def test_two_episodes_of_one_name_do_not_disturb_each_other(model: Transformer) -> None:
    engine = make_engine(model)

    async def run() -> list[list[tuple[list[int], Sampled]]]:
        return await asyncio.gather(*(episode(engine, 4, 3, random.Random(9)) for _ in range(2)))

    first, second = asyncio.run(run())
    assert [sampled.token_ids for _, sampled in first] == [sampled.token_ids for _, sampled in second]


def test_a_full_house_of_episodes_finishes(model: Transformer) -> None:
    engine = make_engine(model, slots=64, stop=frozenset({0, 1, 2}), prefill=512)
    rng = random.Random(2)

    async def run() -> list[list[tuple[list[int], Sampled]]]:
        return await asyncio.gather(*(episode(engine, i, rng.randrange(1, 3), rng, 10) for i in range(300)))

    episodes = asyncio.run(run())
    assert engine.num_sampled_tokens == sum(len(sampled.token_ids) for seen in episodes for _, sampled in seen)


def test_new_weights_drop_the_latents_and_mark_the_samples(model: Transformer) -> None:
    changed = copy.deepcopy(model)
    engine = make_engine(changed)

    async def run() -> None:
        ids = prompt(0, 30)
        sampled = await engine.sample(ids, GREEDY)
        assert sampled.weight_version == 0
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.mul_(1.1)
        engine.update_weights(7)
        ids += sampled.token_ids
        sampled = await engine.sample(ids, GREEDY)
        assert sampled.weight_version == 7
        torch.testing.assert_close(torch.tensor(sampled.logprobs), recomputed(changed, ids, sampled), atol=1e-4, rtol=0)

    asyncio.run(run())


def test_requests_in_progress_go_on_under_new_weights(model: Transformer) -> None:
    changed = copy.deepcopy(model)
    engine = make_engine(changed)
    ids = prompt(0, 30)

    async def run() -> tuple[list[int], Sampled]:
        generation = engine.submit(ids, GREEDY)
        before = []
        async for drawn in generation:
            before.append(drawn.token_id)
            if len(before) == 5:
                break
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.mul_(1.1)
        engine.update_weights(8)
        return before, await generation.result()

    before, sampled = asyncio.run(run())
    assert sampled.weight_version == 8
    assert sampled.token_ids[:5] == before
    expected = recomputed(changed, ids, sampled)
    torch.testing.assert_close(torch.tensor(sampled.logprobs[6:]), expected[6:], atol=1e-4, rtol=0)
    assert (torch.tensor(sampled.logprobs[:5]) - expected[:5]).abs().max() > 1e-3


def test_the_trainers_statistics_and_mode_stay(model: Transformer) -> None:
    model.train()
    engine = make_engine(model)
    gather(engine, (prompt(0, 20), GREEDY))
    engine.score([prompt(0, 20)])
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.isinf(attention.max_logits_H).all() for attention in model.attentions())
    assert all(not router.load_E.any() for router in model.routers())


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_equal_the_trainers_forward_bit_for_bit(model: Transformer, temperature: float) -> None:
    trained = copy.deepcopy(model).train()
    sequences = [prompt(i, length) for i, length in enumerate((2, 9, 33, 70))]
    for ids, scores in zip(sequences, make_engine(trained).score(sequences, temperature=temperature), strict=True):
        tokens = torch.tensor([ids])
        hidden = trained.hidden(tokens, positions=torch.arange(len(ids))[None])
        logits = torch.nn.functional.linear(hidden[0, :-1], trained.lm_head.weight) / temperature
        expected = logits.log_softmax(-1).gather(1, tokens[0, 1:, None]).squeeze(1)
        assert scores == expected.tolist()


def test_bad_prompts_are_refused(model: Transformer) -> None:
    engine = make_engine(model, context=32)
    for ids, message in (([], "empty"), ([1] * 33, "33 tokens"), ([97], "0..96"), ([-1], "0..96")):
        with pytest.raises(ValueError, match=message):
            gather(engine, (ids, GREEDY))
    with pytest.raises(ValueError, match="max_positions"):
        make_engine(model, context=10_000)
    with pytest.raises(ValueError, match="chat format"):
        asyncio.run(engine.complete([], [], GREEDY))


def test_a_failure_reaches_every_caller_and_the_engine_recovers(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(model, slots=2)

    def fail(*_: Any) -> None:
        raise FloatingPointError("broken kernel")

    async def run() -> list[Sampled | BaseException]:
        calls = [engine.sample(prompt(i, 5), GREEDY) for i in range(6)]
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)

    with monkeypatch.context() as broken:
        broken.setattr(Runner, "logits", fail)
        results = asyncio.run(run())
    assert len(results) == 6
    for result in results:
        assert isinstance(result, EngineError)
        assert "FloatingPointError: broken kernel" in str(result)
    assert all(isinstance(result, Sampled) for result in asyncio.run(run()))


def test_closing_ends_the_wait(model: Transformer) -> None:
    engine = make_engine(model, slots=2)

    async def run() -> list[Sampled | BaseException]:
        calls = asyncio.gather(*(engine.sample(prompt(i, 5), GREEDY) for i in range(4)), return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        engine.close()
        return await asyncio.wait_for(calls, 20)

    assert all("closed" in str(result) and isinstance(result, EngineError) for result in asyncio.run(run()))
    engine.close()
    for call in (
        lambda: gather(engine, (prompt(0, 5), GREEDY)),
        lambda: engine.score([[1, 2]]),
        lambda: engine.update_weights(1),
        engine.sleep,
    ):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_two_loops_at_once_are_refused(model: Transformer) -> None:
    engine = make_engine(model)

    async def run() -> Sampled:
        first = asyncio.create_task(engine.sample(prompt(0, 5), replace(GREEDY, max_tokens=100)))
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="another event loop"):
            await asyncio.to_thread(gather, engine, (prompt(1, 5), GREEDY))
        return await first

    assert len(asyncio.run(run()).token_ids) == 100


def test_what_cannot_be_scored_is_refused(model: Transformer) -> None:
    engine = make_engine(model, context=32)
    for sequence, message in (([], "empty"), ([500], "0..96"), ([1] * 33, "33 tokens"), ([1.5], "list of token ids")):
        with pytest.raises(ValueError, match=message):
            engine.score([sequence])
    with pytest.raises(ValueError, match="above 0"):
        engine.score([[1, 2]], temperature=0.0)


def test_a_cancelled_caller_frees_its_row(model: Transformer) -> None:
    engine = make_engine(model, slots=1)

    async def run() -> None:
        for wait in range(4):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.sample(prompt(0, 5), replace(GREEDY, max_tokens=10_000)), wait * 0.01)
        await asyncio.wait_for(engine.sample(prompt(0, 5), GREEDY), 20)

    asyncio.run(run())
    engine.update_weights(1)


def test_event_loops_may_change_even_in_the_middle(model: Transformer) -> None:
    engine = make_engine(model, slots=2)
    endless = replace(GREEDY, max_tokens=10_000)

    async def leave_behind() -> None:
        leftover.append(asyncio.create_task(engine.sample(prompt(1, 5), endless)))
        await engine.sample(prompt(0, 5), GREEDY)

    leftover: list[asyncio.Task[Sampled]] = []
    with asyncio.Runner() as runner:
        runner.run(leave_behind())  # one request goes on; the loop stands still
        assert len(gather(engine, (prompt(0, 5), GREEDY))[0].token_ids) == 20
        assert len(runner.run(engine.sample(prompt(0, 5), GREEDY)).token_ids) == 20
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_behind())
    loop.close()  # without a word to its tasks
    assert len(gather(engine, (prompt(0, 5), GREEDY))[0].token_ids) == 20
