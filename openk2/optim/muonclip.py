"""MuonClip: Muon for matrices, AdamW for the rest, QK-Clip after the step (K2 §2.1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.utils.hooks import RemovableHandle

from openk2.optim.blocks import Layout
from openk2.optim.config import OptimConfig
from openk2.optim.groups import STATE, check_stored, filled
from openk2.optim.muon import DTYPES, advance, apply_updates, orthogonal_updates, scale_of
from openk2.optim.plan import ADAMW_ROLES, PLAIN_MATRIX, Plan, PlanRow, plan, row_of
from openk2.optim.qk_clip import CLIPPERS, ClippableAttention, ClipReport, clip_, clippable, clipper_of, forget
from openk2.optim.sharding import RowExchange, cuts_matrices, local, shard_dim

UpdateHook = Callable[[str, str, Tensor, float], None]


class NonFiniteGradientError(FloatingPointError):
    """A gradient has NaN or infinity; nothing was updated."""


class MuonClip(torch.optim.Optimizer):
    """One step, for each matrix W [n, m] with gradient G (K2 §2.1)::

        M ← μ·M + G;    O ← NewtonSchulz(M)·0.2·√max(n, m);    W ← W − η·(O + λ·W)

    then AdamW for what is not Muon's (without weight decay: K2 decays matrices), then QK-Clip. Weights are
    updated in fp32; compute under autocast, or keep fp32 masters. State: ``momentum``, or ``exp_avg``,
    ``exp_avg_sq`` and ``step``. A group holds ``algorithm`` ("muon" or "adamw"), ``lr``, ``initial_lr``,
    ``weight_decay`` and the settings of its algorithm. Parameters may be DTensors cut by ``Shard(0)``, as
    ``fully_shard`` makes them; their state then is too.
    """

    def __init__(
        self,
        params: Iterable[Any],
        config: OptimConfig | None = None,
        *,
        attention: Iterable[ClippableAttention] = (),
        group: dist.ProcessGroup | None = None,
        **settings: Any,
    ) -> None:
        """``params`` as in torch.optim, groups with their ``algorithm``; see ``for_model`` for a whole model.

        ``settings`` are fields of ``OptimConfig``, or a ``config`` has them all. ``attention`` is clipped after every
        step. A parameter on Muon may publish its layout (see ``Layout``); else ``[out, in]`` is a matrix and
        ``[stack, out, in]`` a stack of them.
        ``group`` are the ranks that hold the same modules, by default all: the clip takes its maxima over them.
        Raises ValueError, naming the parameter, for one that its algorithm cannot update; naming group and key, for a
        setting that is none; where ``tau`` is set without attention, or a QKClip clips it already.
        """
        self.config = _config_of(config, settings)
        self.last_clip: ClipReport | None = None
        self.skipped_steps = 0
        self.group = group
        self._attention = tuple(attention)
        if self.config.tau is not None and not self._attention:
            raise ValueError(
                f"QK-Clip is on (tau = {self.config.tau:g}) but there is no attention to clip: give attention, or set "
                "tau to none"
            )
        self._exchanges: dict[tuple[Tensor, ...], RowExchange] = {}
        self._rows: dict[Tensor, PlanRow] = {}
        self._left_out: tuple[PlanRow, ...] = ()
        self._update_hooks: OrderedDict[int, UpdateHook] = OrderedDict()
        self._model: nn.Module | None = None
        other = clipper_of(self._attention)
        if self.config.tau is not None and other is not None and not isinstance(other, MuonClip):
            raise ValueError(f"{type(other).__name__} clips this attention already: set tau to none, or remove() it")
        super().__init__(params, {"algorithm": "muon"})
        # Schedulers that cycle the momentum (OneCycleLR, CyclicLR) look here whether there is one.
        self.defaults["momentum"] = self.config.momentum
        if self.config.tau is not None:
            CLIPPERS[self] = self._attention

    @classmethod
    def for_model(
        cls,
        model: nn.Module,
        config: OptimConfig | None = None,
        *,
        roles: Mapping[str, str | Layout] | None = None,
        group: dist.ProcessGroup | None = None,
        **settings: Any,
    ) -> Self:
        """An optimizer for all parameters of a model, each sorted as ``plan`` says, and its attention modules.

        ``MuonClip.for_model(model, lr=2e-4, adamw_lr=1e-4)``. ``roles`` names what a model does not publish, by
        patterns of parameter names: ``{"*.experts.*": "experts", "*.mlp.gate.weight": "router"}``.
        ``group`` as in the constructor.
        Raises ValueError for a parameter that fits no rule, and where QK-Clip is on but nothing can be clipped.
        """
        config = _config_of(config, settings)
        attention: list[ClippableAttention] = []
        if config.tau is not None:
            attention = clippable(model)
            if not attention:
                raise ValueError(
                    f"QK-Clip is on (tau = {config.tau:g}) but no module of {type(model).__name__} has max_logits_H "
                    "and qk_views(): set tau to none"
                )
        rows = plan(model, config.split, roles)
        apart = config.router_lr is not None
        parameters = dict(model.named_parameters())
        groups: list[dict[str, Any]] = []
        for algorithm, router in (("muon", False), ("adamw", False), ("adamw", True)):
            chosen = [r for r in rows if r.algorithm == algorithm and (apart and r.role == "router") == router]
            if chosen:
                groups.append({"params": [(row.name, parameters[row.name]) for row in chosen], "algorithm": algorithm})
                groups[-1] |= {"lr": config.router_lr} if router else {}
        if not groups:
            raise ValueError(f"{type(model).__name__} has no parameter that takes a gradient")
        optimizer = cls(groups, config, attention=attention, group=group)
        optimizer._rows = {parameters[row.name]: row for row in rows if row.algorithm != "frozen"}
        optimizer._left_out = tuple(row for row in rows if row.algorithm == "frozen")
        optimizer._model = model
        return optimizer

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their ``algorithm``; what the group does not say is as in the config.

        Raises ValueError, naming the group and the key, for a setting that is unknown or out of its bounds.
        """
        super().add_param_group(filled(param_group, self.config, len(self.param_groups)))
        group = self.param_groups[-1]
        group.setdefault("initial_lr", group["lr"])
        names = group.get("param_names") or [f"{len(self._rows) + i}" for i in range(len(group["params"]))]
        try:
            rows = [_checked_row(name, p, group) for name, p in zip(names, group["params"], strict=True)]
        except ValueError:
            self.param_groups.pop()
            raise
        self._rows |= dict(zip(group["params"], rows, strict=True))

    def __reduce_ex__(self, _: Any) -> Any:
        """Refuse to be copied or pickled: the parameters of the copy would not be the model's."""
        raise TypeError("MuonClip is not copied or pickled: load its state_dict() into a new one for the other model")

    def plan(self) -> Plan:
        """One row for each parameter: name, shape, algorithm, matrices, why. Printed, a table."""
        return Plan([*self._rows.values(), *self._left_out])

    def register_update_hook(self, hook: UpdateHook) -> RemovableHandle:
        """Have ``hook`` see Muon's updates of every step, as long as the handle is not removed.

        It gets the parameter's name, the block's, the orthogonal matrices ``[K, N, M]`` and the factor they are scaled
        with. Of weights whose matrices are cut over ranks nothing is seen.
        """
        handle = RemovableHandle(self._update_hooks)
        self._update_hooks[handle.id] = hook
        return handle

    def scale_lr(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` × its peak."""
        for group in self.param_groups:
            group["lr"] = factor * group["initial_lr"]

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
        self._check_gradients()
        if self.config.nonfinite != "propagate" and not self._gradients_are_finite():
            self.skipped_steps += 1
            forget(self._attention)
            return loss
        for group in self.param_groups:
            parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if parameters:
                update = self._step_muon if group["algorithm"] == "muon" else self._step_adamw
                update(group, parameters, gradients)
        c = self.config
        if c.tau is not None:
            self.last_clip = clip_(
                self._attention,
                c.tau,
                c.qk_clip_alpha,
                per=c.qk_clip_per,
                tau_over_median=c.tau_over_median,
                group=self.group,
            )
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's. Raises ValueError, before anything changes, for the state of another optimizer or other shapes."""
        check_stored(self.param_groups, state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for parameter, number in zip(parameters, numbers, strict=False):
            for kind, tensor in state_dict["state"].get(number, {}).items():
                wanted = self._state_shape(parameter, kind)
                if tensor.shape != wanted:
                    raise ValueError(
                        f"{kind} of {self._rows[parameter].name} has shape {list(tensor.shape)} in the state, "
                        f"the parameter {list(wanted)}"
                    )
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for parameter in group["params"]:
                # Torch gives every state its parameter's dtype.
                state: dict[str, Tensor] = self.state[parameter]
                for kind in state:
                    if kind.startswith("momentum"):
                        state[kind] = state[kind].to(DTYPES[group["momentum_dtype"]])

    def _check_gradients(self) -> None:
        """Raise ValueError, before anything is updated, for a sparse gradient and for one that no group takes."""
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.layout != torch.strided:
                    raise ValueError(
                        f"the gradient of parameter {self._rows[parameter].name} {list(parameter.shape)} in group "
                        f"{number} is sparse: MuonClip wants dense ones, as nn.Embedding(sparse=False) gives"
                    )
        for name, parameter in self._model.named_parameters() if self._model is not None else ():
            if parameter.grad is not None and parameter.requires_grad and parameter not in self._rows:
                raise ValueError(
                    f"parameter {name} has a gradient but was frozen or not there when this optimizer was made: "
                    "add_param_group() it, or make the optimizer anew"
                )

    def _gradients_are_finite(self) -> bool:
        """False when a gradient of any rank of the group is not; raises where that is what the config asks for."""
        named = [(self._rows[p].name, p.grad) for group in self.param_groups for p in group["params"]]
        given = [(name, local(gradient)) for name, gradient in named if gradient is not None]
        given = [(name, gradient) for name, gradient in given if gradient.numel()]
        norms = torch._foreach_norm([gradient for _, gradient in given], ord=torch.inf) if given else []
        finite = torch.stack([norm.isfinite().to(norms[0].device) for norm in norms]).tolist() if norms else []
        if _everywhere(all(finite), self.param_groups[0]["params"][0].device, self.group):
            return True
        if self.config.nonfinite == "raise":
            names = ", ".join(name for (name, _), fine in zip(given, finite, strict=True) if not fine)
            raise NonFiniteGradientError(
                f"NaN or infinity in the gradient of {names or 'a parameter of another rank'}; nothing was updated"
            )
        return False

    def _step_muon(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        weights = [local(parameter) for parameter in parameters]
        momenta = [local(self._state(p, "momentum", DTYPES[group["momentum_dtype"]])) for p in parameters]
        directions = advance(group, momenta, [local(gradient) for gradient in gradients])
        # Whose rows lie on several ranks travels to be orthogonalised whole; the rest is whole where it is.
        cut = [number for number, parameter in enumerate(parameters) if cuts_matrices(parameter)]
        whole = [number for number, weight in enumerate(weights) if number not in set(cut) and weight.numel()]
        blocks = [(number, block) for number in whole for block in self._rows[parameters[number]].pieces]
        targets = [block.view(weights[number]) for number, block in blocks]
        matrices = [block.matrices(directions[number]) for number, block in blocks]
        if cut:
            exchange = self._exchange(group, tuple(parameters[number] for number in cut))
            matrices += exchange.gather([directions[number] for number in cut])
        updates = orthogonal_updates(group, matrices)
        for hook in self._update_hooks.values():
            for (number, block), update_KNM in zip(blocks, updates, strict=False):
                scale = scale_of(group["scale"], group["update_rms"], update_KNM.shape[1:])
                hook(self._rows[parameters[number]].name, block.name, update_KNM / scale, scale)
        if cut:
            updates[len(targets) :] = exchange.scatter(updates[len(targets) :])
            targets += [weights[number] for number in cut]
        apply_updates(group, targets, updates)

    def _exchange(self, group: dict[str, Any], parameters: tuple[Tensor, ...]) -> RowExchange:
        if parameters not in self._exchanges:
            pieces = [self._rows[parameter].pieces for parameter in parameters]
            self._exchanges[parameters] = RowExchange(parameters, pieces, group["newton_schulz_steps"])
        return self._exchanges[parameters]

    def _step_adamw(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        beta1, beta2 = group["adamw_betas"]
        adamw(
            [local(parameter) for parameter in parameters],
            [local(gradient) for gradient in gradients],
            [local(self._state(parameter, "exp_avg")) for parameter in parameters],
            [local(self._state(parameter, "exp_avg_sq")) for parameter in parameters],
            [],
            [self._state(parameter, "step", shape=torch.Size()) for parameter in parameters],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["adamw_eps"],
            maximize=False,
        )

    def _state(
        self, parameter: Tensor, kind: str, dtype: torch.dtype = torch.float32, shape: torch.Size | None = None
    ) -> Tensor:
        """A state tensor of a parameter; zero at first. By default it has its shape, and is cut over ranks as it is."""
        state = self.state[parameter]
        if kind not in state:
            if shape is None:
                state[kind] = torch.zeros_like(parameter, dtype=dtype)
            else:
                state[kind] = torch.zeros(shape, device=parameter.device, dtype=dtype)
        tensor: Tensor = state[kind]
        return tensor

    def _state_shape(self, parameter: Tensor, kind: str) -> torch.Size:
        """``step`` is one number, the others have the parameter's shape. Raises ValueError for what is not kept."""
        row = self._rows[parameter]
        if kind not in STATE[row.algorithm]:
            raise ValueError(
                f"{kind} in the state of {row.name}: {row.algorithm} keeps {', '.join(STATE[row.algorithm])}"
            )
        return torch.Size() if kind == "step" else parameter.shape


def _everywhere(fact: bool, device: torch.device, group: dist.ProcessGroup | None) -> bool:
    """Whether it holds on all ranks: those with parts of one model must decide alike."""
    if not (dist.is_available() and dist.is_initialized()):
        return fact
    holds = torch.tensor(float(fact), device=device)
    dist.all_reduce(holds, op=dist.ReduceOp.MIN, group=group)
    return bool(holds)


def _config_of(config: OptimConfig | None, settings: Mapping[str, Any]) -> OptimConfig:
    if config is not None and settings:
        raise ValueError(f"give settings in the config or by name, not both: {', '.join(sorted(settings))}")
    return config or OptimConfig(**settings)


def _checked_row(name: str, parameter: Tensor, group: Mapping[str, Any]) -> PlanRow:
    """The parameter's row in the plan, or a ValueError that names it and says what would be right."""
    if parameter.dtype != torch.float32 or parameter.layout != torch.strided:
        what = "sparse" if parameter.layout != torch.strided else str(parameter.dtype)
        raise ValueError(
            f"parameter {name} is {what}: MuonClip updates dense float32 weights; compute under autocast instead"
        )
    if not parameter.numel():
        raise ValueError(f"parameter {name} of shape {list(parameter.shape)} has no elements")
    try:
        shard_dim(parameter)
    except ValueError as error:
        raise ValueError(f"parameter {name} {error}") from error
    layout: Layout = getattr(parameter, "published", PLAIN_MATRIX)
    if group["algorithm"] == "adamw":
        return PlanRow(name, tuple(parameter.shape), "adamw", (), "its group says so", layout.role)
    if layout.role in ADAMW_ROLES:
        layout = PLAIN_MATRIX
    return row_of(name, parameter, layout, "its group says so", group["split"])
