"""Rollouts become batches: each sampled token at its slot, with its log-probability and its trace's advantage."""

from __future__ import annotations

import pytest
import torch

from openk2.engine.engine import Engine
from openk2.model.transformer import Transformer
from openk2.schema import Score, Trace
from openk2.text.chat import ChatFormat
from openk2.train.objective import token_logprobs
from openk2.train.rollout import PolicyBatch, policy_batches, reward
from tests.train.episodes import make_agent, make_chat, play

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return make_chat()


@pytest.fixture(scope="module")
def agent(chat: ChatFormat) -> tuple[Transformer, Engine]:
    return make_agent(chat)


@pytest.fixture(scope="module")
def traces(agent: tuple[Transformer, Engine], chat: ChatFormat) -> list[Trace]:
    return [trace for group in play(agent[1], chat) for trace in group]


def batches(traces: list[Trace], *, rows: int = 2, row_length: int = 64) -> list[PolicyBatch]:
    """Trace number i has the advantage i + 1."""
    advantages = [float(i + 1) for i in range(len(traces))]
    made = policy_batches(
        traces, advantages, row_length=row_length, micro_batch_rows=rows, pad_id=0, device=CPU
    )  # fmt: skip
    return list(made)


def sampled(trace: Trace) -> tuple[list[int], list[float]]:
    segments = [segment for segment in trace.segments if segment.source == "sampled"]
    return [t for s in segments for t in s.token_ids], [p for s in segments for p in s.logprobs or []]


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_each_sampled_token_lands_at_its_slot(traces: list[Trace], rows: int) -> None:
    seen = []
    for batch in batches(traces, rows=rows):
        targets_ST = batch.spread(batch.targets_N)
        for sample, advantage in enumerate(batch.advantages_S.tolist()):
            trace = traces[int(advantage) - 1]
            tokens, logprobs = sampled(trace)
            mask = batch.mask_ST[sample]
            assert targets_ST[sample][mask].tolist() == tokens
            assert batch.old_logprobs_ST[sample][mask].tolist() == pytest.approx(logprobs)
            assert mask[: len(tokens)].all()
            seen.append(int(advantage) - 1)
    assert sorted(seen) == list(range(len(traces)))
    assert any(len([s for s in trace.segments if s.source == "sampled"]) == 2 for trace in traces)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_on_policy_the_ratio_is_zero(agent: tuple[Transformer, Engine], chat: ChatFormat, temperature: float) -> None:
    model, engine = agent
    played = [trace for group in play(engine, chat, temperature=temperature) for trace in group]
    for batch in batches(played):
        rows = batch.rows
        hidden_BTD = model.hidden(rows.tokens_BT, positions=rows.positions_BT, doc_ids=rows.doc_ids_BT)
        hidden_ND = hidden_BTD.flatten(0, 1)[batch.positions_N]
        found_N = token_logprobs(hidden_ND, model.lm_head.weight, batch.targets_N, temperature=temperature)
        torch.testing.assert_close(batch.spread(found_N), batch.old_logprobs_ST, rtol=0, atol=1e-4)


def test_traces_longer_than_a_row_are_left_out(traces: list[Trace]) -> None:
    lengths = [len(trace.token_ids) for trace in traces]
    row_length = sorted(lengths)[len(lengths) // 2]
    kept = {int(a) - 1 for batch in batches(traces, row_length=row_length) for a in batch.advantages_S.tolist()}
    assert kept == {i for i, length in enumerate(lengths) if length <= row_length}
    assert 0 < len(kept) < len(traces)


def test_rollouts_of_a_prompt_differ_and_repeat(agent: tuple[Transformer, Engine], chat: ChatFormat) -> None:
    first, again, other = (play(agent[1], chat, seed=seed) for seed in (3, 3, 4))
    for group in first:
        assert len({trace.task_id for trace in group}) == 1
        assert len({tuple(trace.token_ids) for trace in group}) > 1
    tokens = [[trace.token_ids for group in groups for trace in group] for groups in (first, again, other)]
    assert tokens[0] == tokens[1]
    assert tokens[0] != tokens[2]


def test_only_a_finished_episode_is_rewarded(agent: tuple[Transformer, Engine], chat: ChatFormat) -> None:
    cut = [trace for group in play(agent[1], chat, max_tokens=1) for trace in group if trace.stop_reason != "done"]
    assert {trace.stop_reason for trace in cut} == {"token_budget"}
    for trace in cut:
        trace.score = Score(1.0)
        assert reward(trace) == 0.0
        trace.stop_reason = "done"
        assert reward(trace) == 1.0
        trace.score = None
        assert reward(trace) == 0.0
