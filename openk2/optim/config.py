"""What can be set: the optimizer, and the learning rate over a run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openk2.optim.coefficients import Table, polynomials

Split = Literal["matrix", "piece", "head"]
Scale = Literal["match_rms_adamw", "original", "spectral"]
Dtype = Literal["fp32", "bf16"]


class OptimConfig(BaseModel):
    """MuonClip with AdamW for what is not Muon's. The defaults are the paper's values (K2 §2.1, §2.5)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(default=2e-4, gt=0, description="peak learning rate of Muon's matrices")
    adamw_lr: float | None = Field(default=None, gt=0, description="peak learning rate of AdamW's parameters; none: lr")
    router_lr: float | None = Field(
        None, gt=0, description="peak learning rate of the routers; none: adamw_lr. Fast routers starve experts"
    )
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Muon's momentum μ")
    nesterov: bool = Field(default=True, description="orthogonalise G + μ·M (True) or M (False)")
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled weight decay λ of Muon's matrices")
    cautious: bool = Field(default=False, description="decay only entries whose update shrinks them (arXiv 2510.12402)")
    momentum_dtype: Dtype = Field(default="fp32", description="how the momentum is kept")
    newton_schulz: Table = Field(default="quintic", description="coefficients of the Newton-Schulz iterations")
    newton_schulz_steps: int = Field(default=5, ge=1, description="Newton-Schulz iterations")
    newton_schulz_dtype: Dtype = Field(
        default="fp32", description="arithmetic of the iterations; bf16 pays where the hardware multiplies it fast"
    )
    scale: Scale = Field(
        default="match_rms_adamw",
        description="factor on an orthogonal update [n, m]: update_rms·√max(n, m), √max(1, n/m), or √(n/m)",
    )
    update_rms: float = Field(
        default=0.2, gt=0, description="match_rms_adamw: root mean square of an update at lr 1, like AdamW's"
    )
    adamw_betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW's decay of the two moments")
    adamw_eps: float = Field(default=1e-8, gt=0, description="AdamW's ε")
    split: Split = Field(
        default="piece", description="what is orthogonalised together: whole weights, pieces, or heads"
    )
    tau: float | None = Field(
        default=100.0, gt=0, description="QK-Clip: the largest attention logit allowed; none: no clip"
    )
    qk_clip_alpha: float = Field(
        default=0.5, ge=0, le=1, description="QK-Clip: the share of γ that the query side takes"
    )
    qk_clip_per: Literal["head", "layer"] = Field(
        default="head", description="QK-Clip: what takes its own γ; layer: all heads of one take the smallest of them"
    )
    tau_over_median: float | None = Field(
        default=None,
        gt=0,
        description="QK-Clip: allow at least so many times the heads' median maximum; none: only tau",
    )

    nonfinite: Literal["propagate", "skip", "raise"] = Field(
        default="propagate", description="what a step does when a gradient has NaN or infinity; looking costs a sync"
    )

    @model_validator(mode="after")
    def _table_has_these_steps(self) -> Self:
        polynomials(self.newton_schulz, self.newton_schulz_steps)
        return self


class Phase(BaseModel):
    """A stretch of the schedule. One that ends at the learning rate it began with is constant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: float = Field(ge=0, description="tokens, or a fraction of the stage: see ScheduleConfig.over")
    to: float = Field(ge=0, description="learning rate at the end, as a fraction of the peak")
    shape: Literal["linear", "cosine"] = Field(default="linear", description="the way there")


class ScheduleConfig(BaseModel):
    """The learning rate over a run, as phases: warm-up, stable, decay, annealing (WSD, K2 §2.5).

    The default, over a stage: 2 % warm-up, 68 % stable, 30 % cosine to a tenth.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    over: Literal["tokens", "stage"] = Field(
        default="stage", description="what lengths count: tokens, or parts of the stage"
    )
    start: float = Field(
        default=0.0, ge=0, description="learning rate before the first token, as a fraction of the peak"
    )
    phases: tuple[Phase, ...] = Field(
        default=(Phase(length=0.02, to=1.0), Phase(length=0.68, to=1.0), Phase(length=0.30, to=0.1, shape="cosine")),
        min_length=1,
        description="one after the other; after the last, its learning rate stays",
    )

    @model_validator(mode="after")
    def _fractions_fill_the_stage(self) -> Self:
        total = sum(phase.length for phase in self.phases)
        if self.over == "stage" and abs(total - 1) > 1e-6:
            raise ValueError(f'schedule over "stage": the phases\' lengths must sum to 1, they sum to {total:g}')
        return self
