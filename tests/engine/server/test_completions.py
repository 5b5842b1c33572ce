"""Plain completions, asked by OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from openk2.engine.server.vocabulary import Vocabulary
from openk2.model.transformer import Transformer
from openk2.text.tokenizer import Tokenizer
from tests.engine.server.conftest import Running, make_engine

PROMPT = "def parse(self):"


def test_the_four_shapes_of_a_prompt(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPT)
    asked: Any = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    one = client.completions.create(prompt=PROMPT, **asked).choices[0].text
    assert client.completions.create(prompt=ids, **asked).choices[0].text == one
    two = client.completions.create(prompt=[PROMPT, PROMPT], **asked).choices
    assert [(choice.index, choice.text) for choice in two] == [(0, one), (1, one)]
    assert [choice.text for choice in client.completions.create(prompt=[ids, ids], **asked).choices] == [one, one]


def test_choices_are_numbered_prompt_by_prompt(client: openai.OpenAI) -> None:
    done = client.completions.create(model="tiny", prompt=["a", "b"], n=2, max_tokens=3, echo=True, seed=1)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    assert [choice.text[0] for choice in done.choices] == ["a", "a", "b", "b"]
    assert done.usage is not None
    assert done.usage.prompt_tokens == 2


def test_a_stream_says_the_same_as_an_answer_in_one_piece(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "prompt": PROMPT, "max_tokens": 30, "seed": 3, "echo": True, "logprobs": 2, "n": 2}
    whole = client.completions.create(**asked)
    texts, tokens, reasons = ["", ""], [[], []], [None, None]
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens if choice.logprobs else []
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs.tokens for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]


def test_echoed_logprobs_score_a_text(client: openai.OpenAI, server: Running, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("def parse(é): return 1")
    done = client.completions.create(
        model="tiny", prompt=ids, max_tokens=0, echo=True, logprobs=2, temperature=0
    ).choices[0]
    assert done.logprobs is not None
    assert done.text == "def parse(é): return 1"
    assert done.logprobs.token_logprobs[0] is None
    expected = server.served.engine.score([ids])[0]
    assert done.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-5)
    for token, offset in zip(done.logprobs.tokens, done.logprobs.text_offset, strict=True):
        assert token.startswith("bytes:") or done.text[offset:].startswith(token)
    for top in done.logprobs.top_logprobs[1:]:
        assert len(top) == 2


def test_a_prompt_of_one_token_has_nothing_to_score(client: openai.OpenAI) -> None:
    done = client.completions.create(model="tiny", prompt=[5], max_tokens=0, echo=True, logprobs=1).choices[0]
    assert done.logprobs is not None
    assert done.logprobs.token_logprobs == [None]
    assert done.finish_reason == "length"


def test_greedy_draws_the_most_probable(client: openai.OpenAI) -> None:
    done = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, logprobs=1, temperature=0).choices[0]
    assert done.logprobs is not None
    for token, logprob, top in zip(
        done.logprobs.tokens, done.logprobs.token_logprobs, done.logprobs.top_logprobs, strict=True
    ):
        assert top == {token: logprob}


def test_next_to_no_temperature_is_none(client: openai.OpenAI) -> None:
    cold, colder = (
        client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, temperature=temperature).choices[0].text
        for temperature in (0, 1e-200)
    )
    assert cold == colder


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12}
    first, again, other = (client.completions.create(**asked, seed=seed).choices[0].text for seed in (7, 7, 8))
    assert first == again != other


@pytest.fixture(scope="module")
def plain(model: Transformer, tokenizer: Tokenizer) -> Iterator[openai.OpenAI]:
    """A model whose tokenizer is no chat tokenizer."""
    vocabulary = Vocabulary(tokenizer.to_json(), model.config.vocab_size, frozenset())
    with (
        Running(make_engine(model, None, stop=frozenset()), vocabulary) as running,
        openai.OpenAI(base_url=running.address + "/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
        running.wait_until_idle()


def test_a_model_without_a_chat_tokenizer_completes_and_says_so_on_chat(plain: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "seed": 2}
    text = plain.completions.create(**asked).choices[0].text
    assert text
    stop = text[len(text) // 2 :][:2]
    stopped = plain.completions.create(**asked, stop=[stop]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(stop)], "stop")
    with pytest.raises(openai.BadRequestError, match="no chat tokenizer"):
        plain.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
