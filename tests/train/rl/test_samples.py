"""Rollouts become batches: each sampled token at its slot, with its log-probability and its trace's advantage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from openk2.engine.config import EngineConfig
from openk2.model.transformer import Transformer
from openk2.schema import Trace
from openk2.text.chat import ChatFormat
from openk2.train.objective import token_logprobs
from openk2.train.rl.samples import PolicyBatch, policy_batches
from tests.train.episodes import make_agent, make_chat, make_playing, play_groups

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return make_chat()


@pytest.fixture(scope="module")
def model(chat: ChatFormat) -> Transformer:
    return make_agent(chat)[0]


@pytest.fixture(scope="module")
def traces(model: Transformer, chat: ChatFormat, tmp_path_factory: pytest.TempPathFactory) -> list[Trace]:
    playing = make_playing(chat, tmp_path_factory.mktemp("rollouts"))
    return [trace for group in play_groups(model, playing) for trace in group]


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
def test_on_policy_the_ratio_is_zero(model: Transformer, chat: ChatFormat, temperature: float, tmp_path: Path) -> None:
    groups = play_groups(model, make_playing(chat, tmp_path), temperature=temperature)
    played = [trace for group in groups for trace in group]
    for batch in batches(played):
        rows = batch.rows
        hidden_BTD = model.hidden(rows.tokens_BT, positions=rows.positions_BT, doc_ids=rows.doc_ids_BT)
        hidden_ND = hidden_BTD.flatten(0, 1)[batch.positions_N]
        found_N = token_logprobs(hidden_ND, model.lm_head.weight, batch.targets_N, temperature=batch.temperatures_N)
        assert batch.temperatures_N.tolist() == pytest.approx([temperature] * len(batch.temperatures_N))
        torch.testing.assert_close(batch.spread(found_N), batch.old_logprobs_ST, rtol=0, atol=1e-4)


def test_traces_longer_than_a_row_are_left_out(traces: list[Trace]) -> None:
    lengths = [len(trace.token_ids) for trace in traces]
    row_length = sorted(lengths)[len(lengths) // 2]
    kept = {int(a) - 1 for batch in batches(traces, row_length=row_length) for a in batch.advantages_S.tolist()}
    assert kept == {i for i, length in enumerate(lengths) if length <= row_length}
    assert 0 < len(kept) < len(traces)


def test_recorded_experts_stand_where_their_tokens_do(model: Transformer, chat: ChatFormat, tmp_path: Path) -> None:
    engine = EngineConfig(max_rows=64, max_context=64, record_experts=True)
    played = [trace for group in play_groups(model, make_playing(chat, tmp_path, engine=engine)) for trace in group]
    advantages = [float(i + 1) for i in range(len(played))]
    found = policy_batches(played, advantages, row_length=64, micro_batch_rows=2, pad_id=0, device=CPU, num_experts=4)
    seen = 0
    for batch in found:
        assert batch.experts_BTLK is not None
        routing = batch.routing()
        assert routing is not None
        assert sorted(routing.experts) == [0, 1]
        for row_T, experts_TLK in zip(batch.rows.doc_ids_BT, batch.experts_BTLK, strict=True):
            for document in sorted(set(row_T.tolist()) - {-1}):
                trace = played[document]
                record = np.concatenate([s.experts for s in trace.segments if s.experts is not None])
                assert len(record) == len(trace.token_ids) - 1
                where = (row_T == document).nonzero().squeeze(1)[: len(record)]
                assert np.array_equal(experts_TLK[where].numpy(), record)
                seen += 1
    assert seen == len(played)
    with pytest.raises(ValueError, match="no record of its experts"):
        list(policy_batches(
            [without_experts(played[0])], [1.0], row_length=64, micro_batch_rows=2, pad_id=0, device=CPU, num_experts=4
        ))  # fmt: skip


def without_experts(trace: Trace) -> Trace:
    copy = Trace.from_json(trace.to_json())
    for segment in copy.segments:
        segment.experts = None
    return copy
