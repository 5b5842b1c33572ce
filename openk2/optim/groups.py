"""What a parameter group of MuonClip holds: filled in from the configuration, checked by its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from openk2.optim.config import OptimConfig

MUON_SETTINGS = ("momentum", "nesterov", "cautious", "scale", "update_rms", "split", "momentum_dtype")
NEWTON_SCHULZ_SETTINGS = ("newton_schulz", "newton_schulz_steps", "newton_schulz_dtype")
ADAMW_SETTINGS = ("adamw_betas", "adamw_eps")
# What a group holds of its algorithm; the rest of OptimConfig is the whole optimizer's.
SETTINGS = {
    "muon": ("lr", "weight_decay", *MUON_SETTINGS, *NEWTON_SCHULZ_SETTINGS),
    "adamw": ("lr", "weight_decay", *ADAMW_SETTINGS),
}
# A name is what loggers of other trainers show.
BESIDE = ("params", "param_names", "algorithm", "initial_lr", "name")
# What an algorithm keeps of a parameter.
STATE = {"muon": ("momentum",), "adamw": ("exp_avg", "exp_avg_sq", "step")}


def filled(group: Mapping[str, Any], config: OptimConfig, number: int) -> dict[str, Any]:
    """The group with what it does not say taken from ``config``.

    Raises ValueError, naming group ``number`` and the key, for a setting that its algorithm has not or that
    ``OptimConfig`` would refuse.
    """
    algorithm = group.get("algorithm", "muon")
    if algorithm not in SETTINGS:
        raise ValueError(f"parameter group {number}: its algorithm is 'muon' or 'adamw', not {algorithm!r}")
    known = SETTINGS[algorithm]
    unknown = [key for key in group if key not in (*known, *BESIDE)]
    if unknown:
        raise ValueError(
            f"parameter group {number}: {algorithm} has no {' or '.join(unknown)}; it has {', '.join(known)}"
        )
    settings = config.model_dump()
    if algorithm == "adamw":
        settings |= {"lr": config.adamw_lr or config.lr, "weight_decay": 0.0}
    given = {key: group[key] for key in known if key in group}
    try:
        settings = OptimConfig(**settings | given).model_dump()
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, fault['loc'])) or ', '.join(given)}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"parameter group {number}: {'; '.join(wrong)}") from error
    return (
        {"algorithm": algorithm} | {key: settings[key] for key in known} | {k: group[k] for k in BESIDE if k in group}
    )


def check_stored(groups: list[dict[str, Any]], state_dict: Mapping[str, Any]) -> None:
    """Raise ValueError, saying what is missing, where a state is not that of an optimizer with these groups."""
    missing = [key for key in ("state", "param_groups") if key not in state_dict]
    if missing:
        raise ValueError(f"this is no state of an optimizer: it has no {' and no '.join(missing)}")
    for number, (group, stored) in enumerate(zip(groups, state_dict["param_groups"], strict=False)):
        algorithm = group["algorithm"]
        if stored.get("algorithm") != algorithm:
            what = f"is {stored['algorithm']}" if "algorithm" in stored else "names no algorithm: it is not MuonClip's"
            raise ValueError(f"parameter group {number} of the state {what}; here it is {algorithm}")
        lacks = [key for key in ("params", *SETTINGS[algorithm]) if key not in stored]
        if lacks:
            raise ValueError(f"parameter group {number} of the state lacks {', '.join(lacks)}")
