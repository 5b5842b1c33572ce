"""The one training step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.train.replicas import Replicas
from openk2.train.step import Batch, Compute, NonFiniteLossError, language_model_losses, training_step
from tests.train.conftest import CountingRows


@pytest.fixture
def batch() -> Batch:
    return Batch.from_rows(next(iter(CountingRows())), torch.device("cpu"))


def test_targets_follow_their_positions_and_stay_in_their_document(batch: Batch) -> None:
    positions_N, targets_N = batch.targets()
    tokens, docs = batch.tokens_BT.flatten(), batch.doc_ids_BT.flatten()
    assert batch.num_targets == len(positions_N) == 4 * (24 - 2)
    assert torch.equal(targets_N, tokens[positions_N + 1])
    assert torch.equal(docs[positions_N], docs[positions_N + 1])


def test_loss_and_gradients_do_not_depend_on_the_micro_batch(model: Transformer, batch: Batch, cpu: Compute) -> None:
    model.double()
    gradients = []
    for rows in (1, 2, 4):
        model.zero_grad()
        for loss_of in language_model_losses(batch, cpu, micro_batch_rows=rows):
            loss_of(model)[0].backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for other in gradients[1:]:
        for name, grad in gradients[0].items():
            torch.testing.assert_close(other[name], grad, rtol=1e-4, atol=1e-8)  # the router computes in fp32


def test_loss_is_the_plain_cross_entropy(model: Transformer, batch: Batch, cpu: Compute) -> None:
    total = sum(float(loss_of(model)[0].detach()) for loss_of in language_model_losses(batch, cpu, micro_batch_rows=3))
    logits = model(batch.tokens_BT, positions=batch.positions_BT, doc_ids=batch.doc_ids_BT)
    targets = batch.tokens_BT[:, 1:].masked_fill(~batch.loss_mask_BT[:, 1:], -100)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())
    assert total == pytest.approx(float(expected), rel=1e-5)


def test_bf16_passes_give_nearly_the_same_loss_and_gradients(model: Transformer, batch: Batch, cpu: Compute) -> None:
    found = []
    for compute in (cpu, Compute(cpu.device, bf16=True)):
        model.zero_grad()
        loss = 0.0
        for loss_of in language_model_losses(batch, compute, micro_batch_rows=2):
            part, _ = loss_of(model)
            part.backward()
            loss += float(part.detach())
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
        found.append((loss, model.lm_head.weight.grad.clone(), model.embed_tokens.weight.grad.clone()))
    (loss, *gradients), (half_loss, *half_gradients) = found
    assert half_loss == pytest.approx(loss, rel=1e-2)
    for half, full in zip(half_gradients, gradients, strict=True):
        assert (half - full).norm() < 0.05 * full.norm()


def test_a_document_does_not_see_its_neighbour(model: Transformer, batch: Batch) -> None:
    changed = batch.tokens_BT.clone()
    changed[:, :10] = 5
    logits = [model(t, positions=batch.positions_BT, doc_ids=batch.doc_ids_BT) for t in (batch.tokens_BT, changed)]
    torch.testing.assert_close(logits[0][:, 10:], logits[1][:, 10:], rtol=0, atol=1e-6)
    assert not torch.allclose(logits[0][:, :10], logits[1][:, :10])


def test_steps_lower_the_loss_and_tell_what_happened(model: Transformer, cpu: Compute) -> None:
    optimizer = MuonClip.for_model(model, OptimConfig(lr=0.02))
    rows = iter(CountingRows())
    told = []
    for _ in range(30):
        batch = Batch.from_rows(next(rows), cpu.device)
        losses = language_model_losses(batch, cpu, micro_batch_rows=4)
        told.append(training_step(Replicas(model, 1), optimizer, losses, lr_factor=1.0, balance_rate=1e-2))
    assert told[-1]["loss"] < 0.5 * told[0]["loss"]
    assert told[0]["num_heads"] == 4
    by_layer = [told[0][f"max_logit/layer {layer}"] for layer in model.layers]
    assert max(by_layer) == told[0]["max_logit"]
    assert len(set(by_layer)) == len(model.layers) > 1
    assert told[0]["expert_load"] >= 1.0
    assert all(torch.equal(r.load_E, torch.zeros_like(r.load_E)) for r in model.routers())


def test_nan_stops_before_any_weight_moves(model: Transformer, batch: Batch, cpu: Compute) -> None:
    optimizer = MuonClip.for_model(model, OptimConfig())
    with torch.no_grad():
        model.lm_head.weight[3, 3] = float("nan")
    before = copy.deepcopy(model.state_dict())
    losses = language_model_losses(batch, cpu, micro_batch_rows=2)
    with pytest.raises(NonFiniteLossError, match="nan"):
        training_step(Replicas(model, 1), optimizer, losses, lr_factor=1.0, balance_rate=0.0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7.0), before[name].nan_to_num(7.0))
