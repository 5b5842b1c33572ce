"""MuonClip: Muon for matrices, AdamW for the rest, QK-Clip after the step (K2 §2.1)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, overload

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from openk2.optim.blocks import Block
from openk2.optim.config import OptimConfig
from openk2.optim.newton_schulz import newton_schulz
from openk2.optim.plan import PlanRow, plan
from openk2.optim.qk_clip import ClippableAttention, ClipReport, clip_

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class MuonClip(torch.optim.Optimizer):
    """One step, for each matrix W [n, m] with gradient G (K2 §2.1)::

        M ← μ·M + G;    O ← NewtonSchulz(M)·0.2·√max(n, m);    W ← W − η·(O + λ·W)

    then AdamW for what is not Muon's (without weight decay: K2 decays matrices), then QK-Clip. Weights are
    updated in fp32; compute under autocast, or keep fp32 masters. State: ``momentum``, or ``exp_avg``,
    ``exp_avg_sq`` and ``step``. A group holds ``algorithm``, ``lr``, ``base_lr`` and ``weight_decay``.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        rows: Sequence[PlanRow],
        config: OptimConfig,
        attention: Sequence[ClippableAttention] = (),
    ) -> None:
        """``rows`` says what updates each of ``parameters``; ``attention`` is clipped after every step."""
        for name, parameter in parameters.items():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                raise ValueError(f"parameter {name} is {parameter.dtype}: MuonClip updates float32 weights")
        adamw_lr = config.adamw_lr or config.lr
        kinds = (
            ("muon", False, config.lr, config.weight_decay),
            ("adamw", False, adamw_lr, 0.0),
            ("adamw", True, config.router_lr, 0.0),
        )
        groups: list[dict[str, Any]] = []
        apart = config.router_lr is not None
        for algorithm, router, rate, decay in kinds:
            chosen = [r for r in rows if r.algorithm == algorithm and (apart and r.role == "router") == router]
            named = [(row.name, parameters[row.name]) for row in chosen]
            if named:
                groups.append({"params": named, "algorithm": algorithm, "lr": rate, "base_lr": rate})
                groups[-1]["weight_decay"] = decay
        super().__init__(groups, {})
        self.config = config
        self.last_clip: ClipReport | None = None
        self._rows = list(rows)
        self._attention = tuple(attention)
        self._blocks: dict[Tensor, tuple[Block, ...]] = {parameters[row.name]: row.pieces for row in rows}

    @classmethod
    def for_model(cls, model: nn.Module, config: OptimConfig) -> Self:
        """An optimizer for all parameters of a model, each sorted as ``plan`` says, and its attention modules.

        Raises ValueError for a parameter that fits no rule, and where QK-Clip is on but nothing can be clipped.
        """
        attention: list[ClippableAttention] = []
        if config.tau is not None:
            attention = [module for module in model.modules() if isinstance(module, ClippableAttention)]
            if not attention:
                raise ValueError(
                    f"QK-Clip is on (tau = {config.tau:g}) but no module of {type(model).__name__} has max_logits_H "
                    "and qk_views(): set tau to none"
                )
        return cls(dict(model.named_parameters()), plan(model, config.split), config, attention)

    def plan(self) -> list[PlanRow]:
        """One row for each parameter: name, shape, algorithm, pieces, why."""
        return list(self._rows)

    def scale_lr(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` × its peak."""
        for group in self.param_groups:
            group["lr"] = factor * group["base_lr"]

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient, then clip; ``last_clip`` tells of the clip."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if not parameters:
                continue
            update = self._step_muon if group["algorithm"] == "muon" else self._step_adamw
            update(parameters, gradients, group["lr"], group["weight_decay"])
        if self._attention and self.config.tau is not None:
            self.last_clip = clip_(self._attention, self.config.tau, self.config.qk_clip_alpha)
        return loss

    def _step_muon(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, weight_decay: float) -> None:
        momenta = [self._state(parameter, "momentum") for parameter in parameters]
        torch._foreach_mul_(momenta, self.config.momentum)
        torch._foreach_add_(momenta, gradients)
        directions: Sequence[Tensor] = momenta
        if self.config.nesterov:
            directions = torch._foreach_add(gradients, momenta, alpha=self.config.momentum)
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)

        # Matrices of one shape, wherever in the model they are, go through Newton-Schulz together.
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, direction in zip(parameters, directions, strict=True):
            for block in self._blocks[parameter]:
                matrices_KNM = block.matrices(direction)
                by_shape[matrices_KNM.shape[1:]].append((block.view(parameter), matrices_KNM))
        dtype = DTYPES[self.config.newton_schulz_dtype]
        for shape, members in by_shape.items():
            weights = [weight for weight, _ in members]
            stack_KNM = torch.cat([matrices_KNM for _, matrices_KNM in members])
            update_KNM = newton_schulz(stack_KNM, steps=self.config.newton_schulz_steps, dtype=dtype).float()
            parts = torch.split(update_KNM, [len(matrices_KNM) for _, matrices_KNM in members])
            updates = [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
            torch._foreach_add_(weights, updates, alpha=-lr * self.config.update_rms * math.sqrt(max(shape)))

    def _step_adamw(self, parameters: list[Tensor], gradients: list[Tensor], lr: float, weight_decay: float) -> None:
        beta1, beta2 = self.config.adamw_betas
        adamw(
            parameters,
            gradients,
            [self._state(parameter, "exp_avg") for parameter in parameters],
            [self._state(parameter, "exp_avg_sq") for parameter in parameters],
            [],
            [self._state(parameter, "step") for parameter in parameters],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=weight_decay,
            eps=self.config.adamw_eps,
            maximize=False,
        )

    def _state(self, parameter: Tensor, name: str) -> Tensor:
        """A state tensor of a parameter; zero at first. ``step`` is one number, the others have its shape."""
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros((), device=parameter.device) if name == "step" else torch.zeros_like(parameter)
        tensor: Tensor = state[name]
        return tensor
