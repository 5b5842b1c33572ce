"""Traces as training batches: packed in rows, with what the objective needs of each sampled token.

Shapes: B rows, L layers, K experts of a token, S samples, T tokens (of a row, or sampled by a sample), N sampled tokens of a
micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openk2.model.moe import Routing
from openk2.schema import Experts, Trace
from openk2.text.packing import PADDING, pack
from openk2.train.step import Batch


@dataclass(frozen=True, slots=True)
class PolicyBatch:
    """A micro-batch of traces packed in rows, with what the objective needs of each sampled token."""

    rows: Batch
    positions_N: Tensor  # where to predict from, in the flattened rows
    targets_N: Tensor
    temperatures_N: Tensor  # what each was sampled at
    slots_N: Tensor  # where each token's value goes in a flattened [S, T]
    old_logprobs_ST: Tensor
    mask_ST: Tensor
    advantages_S: Tensor
    experts_BTLK: Tensor | None = None  # the experts each token visited when it was sampled

    def spread(self, values_N: Tensor) -> Tensor:
        """Values of sampled tokens as [S, T], zero elsewhere."""
        flat = values_N.new_zeros(self.mask_ST.numel()).index_copy(0, self.slots_N, values_N)
        return flat.view(self.mask_ST.shape)

    def routing(self) -> Routing | None:
        """The recorded experts, to be visited again (router replay); None where none were."""
        if self.experts_BTLK is None:
            return None
        return Routing({layer: chosen_BTK.long() for layer, chosen_BTK in enumerate(self.experts_BTLK.unbind(2))})


def policy_batches(
    traces: Sequence[Trace],
    advantages: Sequence[float],
    *,
    row_length: int,
    micro_batch_rows: int,
    pad_id: int,
    device: torch.device,
    num_experts: int = 0,
) -> Iterator[PolicyBatch]:
    """Pack traces into rows and cut them into micro-batches. Traces longer than a row are left out.

    ``num_experts``: replay the experts that the traces recorded, of so many; 0 lets each token choose anew. Raises ValueError
    for a trace without a record then.
    """
    fitting = [i for i, trace in enumerate(traces) if len(trace.token_ids) <= row_length]
    masks = [[kept for segment in traces[i].segments for kept in segment.loss_mask] for i in fitting]
    packed = pack(
        ((traces[i].token_ids, mask) for i, mask in zip(fitting, masks, strict=True)),
        row_length,
        pad_id=pad_id,
        overlong="drop",
    )
    experts = None
    if num_experts and fitting:
        experts = _experts(packed.doc_ids, [traces[i] for i in fitting], num_experts)
    for number, part in enumerate(Batch.from_rows(packed, device).split(micro_batch_rows)):
        positions_N, targets_N = part.targets()
        if len(positions_N) == 0:
            continue
        documents_N = part.doc_ids_BT.flatten().index_select(0, positions_N).cpu().numpy()
        # Tokens of one trace stand together, in order: a sample begins wherever the document changes.
        starts = np.flatnonzero(np.diff(documents_N, prepend=-1))
        lengths = np.diff(starts, append=len(documents_N))
        sample_N = np.repeat(np.arange(len(starts)), lengths)
        width = int(lengths.max())
        slots_N = torch.from_numpy(sample_N * width + np.arange(len(documents_N)) - np.repeat(starts, lengths))
        members = [fitting[document] for document in documents_N[starts]]
        old, temperatures = zip(*(drawn for i in members for drawn in _sampled(traces[i])), strict=True)
        shape = (len(starts), width)
        mask_ST = torch.zeros(shape[0] * width, dtype=torch.bool).index_fill_(0, slots_N, True).view(shape)
        old_ST = torch.zeros(shape[0] * width).index_copy_(0, slots_N, torch.tensor(old)).view(shape)
        rows = slice(number * micro_batch_rows, (number + 1) * micro_batch_rows)
        yield PolicyBatch(
            part,
            positions_N,
            targets_N,
            torch.tensor(temperatures, device=device),
            slots_N.to(device),
            old_ST.to(device),
            mask_ST.to(device),
            torch.tensor([advantages[i] for i in members], device=device),
            None if experts is None else torch.from_numpy(experts[rows]).to(device),
        )


def _sampled(trace: Trace) -> Iterator[tuple[float, float]]:
    """Log-probability and temperature of each token that carries loss."""
    for segment in trace.segments:
        if segment.logprobs is not None:
            assert segment.temperature is not None, "what was sampled has a temperature"
            for logprob, kept in zip(segment.logprobs, segment.loss_mask, strict=True):
                if kept:
                    yield logprob, segment.temperature or 1.0  # greedy tokens tell log-probabilities at 1


def _experts(doc_ids_BT: np.ndarray, traces: Sequence[Trace], num_experts: int) -> npt.NDArray[np.int16]:
    """The recorded experts where the packed tokens stand, [B, T, L, K]. What nobody read goes to all experts in turn."""
    records = [_record(trace) for trace in traces]
    _, layers, k = records[0].shape
    rows, tokens = doc_ids_BT.shape
    turns_MK = np.arange(rows * tokens * k).reshape(rows, tokens, 1, k) % num_experts
    out_BTLK = np.broadcast_to(turns_MK, (rows, tokens, layers, k)).astype(np.int16)
    flat_MLK, document_M = out_BTLK.reshape(rows * tokens, layers, k), doc_ids_BT.reshape(-1)
    starts_M = np.flatnonzero(np.diff(document_M, prepend=PADDING - 1))
    for start in starts_M[document_M[starts_M] != PADDING]:
        record = records[document_M[start]]
        flat_MLK[start : start + len(record)] = record
    return flat_MLK.reshape(out_BTLK.shape)


def _record(trace: Trace) -> Experts:
    parts = [segment.experts for segment in trace.segments if segment.experts is not None]
    if not parts:
        raise ValueError(f"trace {trace.id} has no record of its experts to replay")
    return np.concatenate(parts)
