"""MuonClip and its parts; imports nothing else of openk2 (K2 §2.1)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openk2.optim.config import OptimConfig as OptimConfig
    from openk2.optim.muonclip import MuonClip as MuonClip
    from openk2.optim.qk_clip_hook import QKClip as QKClip
    from openk2.optim.zero1 import Zero1MuonClip as Zero1MuonClip

# Loaded when asked for: recipes read the configuration without torch.
_HOMES = {"MuonClip": "muonclip", "OptimConfig": "config", "QKClip": "qk_clip_hook", "Zero1MuonClip": "zero1"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
