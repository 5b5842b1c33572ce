"""Does QK-Clip keep Muon's attention logits bounded, and what does that cost? (K2 §2.1, figures 2 and 3)

Small models learn bytes of real text, the source of Python's own library, at a learning rate that makes plain Muon's
logits grow without bound. Every arm differs from MuonClip in one thing and runs on the same seeds: same initial
weights, same batches. A run is one process with one thread, so it repeats to the bit; finished ones are kept.
"""

from __future__ import annotations

import math
import statistics
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from openk2.model.config import ModelConfig
from openk2.model.transformer import Transformer
from openk2.optim.metrics import svd_entropy
from openk2.optim.muonclip import MuonClip
from openk2.optim.qk_clip import ClipReport, clippable
from openk2.optim.qk_clip_hook import QKClip
from openk2.studies import runs
from openk2.studies.shared_keys import clip_for_worst_

Kind = Literal["mla_moe", "mha", "gqa"]

ROWS, LENGTH = 8, 128
HIGH_LR, ADAMW_LR = 0.05, 0.005
TAU = 30.0
BALANCE_RATE = 0.01
TEXT_BYTES = 4_000_000
# A spike: a loss this far, in nats and in spreads, above the median of the losses before it.
SPIKE_NATS, SPIKE_SPREADS, SPIKE_WINDOW = 0.3, 6.0, 25

MLA_MOE = ModelConfig(
    vocab_size=256,
    hidden_size=128,
    num_layers=3,
    num_dense_layers=1,
    intermediate_size=256,
    moe_intermediate_size=64,
    num_heads=4,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    num_experts=8,
    num_experts_per_token=2,
    num_shared_experts=1,
    rope_theta=10_000.0,
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is: rows of so many bytes a step, the MLA and MoE model, and where it computes."""

    rows: int = ROWS
    length: int = LENGTH
    mla_moe: ModelConfig = MLA_MOE
    device: str = "cpu"


LAPTOP = Scale()
# 16k bytes a step, about 100M parameters: what one GPU does in a minute or two a run.
ONE_GPU = Scale(
    rows=32,
    length=512,
    mla_moe=MLA_MOE.model_copy(
        update={
            "hidden_size": 512, "num_layers": 8, "intermediate_size": 2048, "moe_intermediate_size": 256,
            "num_heads": 8, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
            "num_experts": 32, "num_experts_per_token": 4,
        }
    ),
    device="cuda",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arm(runs.Arm):
    """One way to train. ``tau`` infinite: logits are watched, nothing is clipped."""

    optimizer: Literal["muon", "adamw"] = "muon"
    tau: float = TAU
    lr: float = HIGH_LR
    kind: Kind = "mla_moe"
    clip: dict[str, Any] = field(default_factory=dict)
    muon: dict[str, Any] = field(default_factory=dict)
    key_for_worst: bool = False  # clip_for_worst_ instead of QK-Clip's rule


ARMS = (
    Arm("MuonClip"),
    Arm("Muon", tau=math.inf),
    Arm("AdamW", optimizer="adamw", tau=math.inf, lr=ADAMW_LR),
    Arm("AdamW + QK-Clip", optimizer="adamw", lr=ADAMW_LR),
    Arm("Muon, lr 0.02", tau=math.inf, lr=0.02),
    Arm("MuonClip, lr 0.02", lr=0.02),
    Arm("MuonClip, τ = 10", tau=10.0),
    Arm("MuonClip, τ = 100", tau=100.0),
    Arm("MuonClip, whole layers clipped", clip={"per": "layer"}),
    Arm("MuonClip, matrices as stored", muon={"split": "matrix"}),
    Arm("MuonClip, every head apart", muon={"split": "head"}),
    Arm("dense MHA, Muon", tau=math.inf, kind="mha"),
    Arm("dense MHA, MuonClip", kind="mha"),
    Arm("GQA, Muon", tau=math.inf, kind="gqa"),
    Arm("GQA, MuonClip", kind="gqa"),
    Arm("GQA, keys left alone", kind="gqa", clip={"alpha": 1.0}),
    Arm("GQA, keys for the worst head", kind="gqa", key_for_worst=True),
)


# ---------------------------------------------------------------------------------------------
# One run
# ---------------------------------------------------------------------------------------------


def corpus() -> Tensor:
    """The bytes to learn from: the modules of Python's library, in order of name."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = bytearray()
    for file in files:
        text += file.read_bytes()
        if len(text) >= TEXT_BYTES:
            break
    return torch.frombuffer(text, dtype=torch.uint8)


def batches(text: Tensor, seed: int, scale: Scale = LAPTOP) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless rows of bytes and the bytes that follow them, both [rows, length]."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(text) - scale.length, (scale.rows,), generator=generator)
        rows = torch.stack([text[start : start + scale.length + 1] for start in starts]).long().to(scale.device)
        yield rows[:, :-1], rows[:, 1:]


def model_for(kind: Kind, seed: int, scale: Scale = LAPTOP) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A model in training mode, and how it makes logits [B, T, 256] from bytes."""
    if kind == "mla_moe":
        model = Transformer(scale.mla_moe).initialize(seed).train().to(scale.device)
        positions_BT = torch.arange(scale.length, device=scale.device).expand(scale.rows, -1)
        return model, lambda tokens_BT: model(tokens_BT, positions=positions_BT)
    import transformers  # the extra that brings dense attention of somebody else's

    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=8 if kind == "gqa" else 4,
        num_key_value_heads=2 if kind == "gqa" else 4,
        max_position_embeddings=scale.length,
    )
    llama = transformers.LlamaForCausalLM(config).train().to(scale.device)
    return llama, lambda tokens_BT: llama(tokens_BT, use_cache=False).logits


def optimizer_for(arm: Arm, model: nn.Module) -> torch.optim.Optimizer:
    """The arm's optimizer, without a clip of its own."""
    if arm.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=arm.lr, betas=(0.9, 0.95), weight_decay=0.1)
    return MuonClip.for_model(model, lr=arm.lr, adamw_lr=ADAMW_LR, tau=None, **arm.muon)


def warmup_stable_decay(step: int, num_steps: int) -> float:
    """The factor on the learning rate: 20 steps up, level, the last 30 % down to a tenth."""
    decayed = max(0.0, (step / num_steps - 0.7) / 0.3)
    return min(1.0, (step + 1) / 20) * (1 - 0.9 * decayed)


class _Run(runs.Kept):
    """What ``run`` returns."""

    loss: list[float]
    max_logit: list[float]
    clipped: list[float]
    svd_entropy: float

    @model_validator(mode="after")
    def _curves_tell_of_every_step(self) -> Self:
        if {len(self.loss), len(self.max_logit), len(self.clipped)} != {self.num_steps}:
            raise ValueError(f"its curves have not {self.num_steps} steps each")
        return self


def run(arm: Arm, seed: int, num_steps: int, scale: Scale = LAPTOP) -> dict[str, Any]:
    """Train once; the curves, and what the weights became. On a GPU the passes are in bfloat16."""
    torch.set_num_threads(1)
    compute = torch.autocast(scale.device, torch.bfloat16, enabled=scale.device != "cpu")
    model, logits_of = model_for(arm.kind, seed, scale)
    optimizer = optimizer_for(arm, model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_stable_decay(step, num_steps))
    source = batches(corpus(), seed, scale)
    curves: dict[str, list[float]] = {"loss": [], "max_logit": [], "clipped": []}
    with QKClip(model, optimizer, math.inf if arm.key_for_worst else arm.tau, **arm.clip) as clip:
        for _ in range(num_steps):
            tokens_BT, targets_BT = next(source)
            with compute:
                logits_BTV = logits_of(tokens_BT)
            loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if isinstance(model, Transformer):
                for router in model.routers():
                    router.rebalance(BALANCE_RATE)
            report: ClipReport | None = clip.last_clip
            assert report is not None
            if arm.key_for_worst:
                report = clip_for_worst_(clippable(model), report, arm.tau)
            curves["loss"].append(float(loss.detach()))
            curves["max_logit"].append(report.max_logit)
            curves["clipped"].append(report.clipped_heads / report.num_heads)
    return {"arm": asdict(arm), "seed": seed, "num_steps": num_steps, **curves, "svd_entropy": weights_entropy(model)}


def weights_entropy(model: nn.Module) -> float:
    """The mean SVD entropy of the matrices inside the layers: what Muon raises over Adam (arXiv 2502.16982)."""
    outside = ("embed_tokens", "lm_head", "mlp.gate.weight")
    matrices = [p for name, p in model.named_parameters() if p.ndim >= 2 and not any(word in name for word in outside)]
    return statistics.mean(float(svd_entropy(matrix).mean()) for matrix in matrices)


def spikes(loss: list[float]) -> int:
    """How often the loss leaves its way: see SPIKE_NATS. Neighbouring steps are one spike."""
    found, inside = 0, False
    for step in range(SPIKE_WINDOW, len(loss)):
        before = loss[step - SPIKE_WINDOW : step]
        middle = statistics.median(before)
        spread = statistics.median(abs(value - middle) for value in before)
        above = not loss[step] <= middle + max(SPIKE_NATS, SPIKE_SPREADS * spread)
        found += above and not inside
        inside = above
    return found


# ---------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------


def study(
    folder: Path,
    *,
    num_steps: int,
    num_seeds: int,
    arms: Sequence[Arm] = ARMS,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run every arm on every seed, as many at a time as there are cores; results are kept in ``folder``.

    A run that is there already, of the same length and settings, is not run again.
    """
    return runs.carry_out(
        folder, run, arms, num_seeds=num_seeds, num_steps=num_steps, kept=_Run, tell=_in_words, say=say
    )


def _in_words(result: runs.Result) -> str:
    return f"loss {end_of(result['loss']):.3f}, largest logit {max(result['max_logit']):.0f}"


def end_of(loss: list[float]) -> float:
    """The loss a run ends at: the mean of its last tenth."""
    return statistics.mean(loss[-max(1, len(loss) // 10) :])
