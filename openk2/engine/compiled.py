"""Whether the decoding step runs compiled: on a CPU, in float32, where numba is installed."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import TYPE_CHECKING

import torch

from openk2.model.transformer import Transformer

if TYPE_CHECKING:
    from openk2.engine.decoder import Decoder


def can_compile(model: Transformer) -> bool:
    """True for contiguous float32 weights on a CPU; where numba is missing, says so once."""
    fits = all(p.device.type == "cpu" and p.dtype == torch.float32 and p.is_contiguous() for p in model.parameters())
    return fits and _has_numba()


def compiled_decoder(model: Transformer) -> Decoder:
    """A decoder for a model that can have one. numba is imported here: half a second."""
    from openk2.engine.decoder import Decoder

    return Decoder(model)


@functools.cache
def _has_numba() -> bool:
    if importlib.util.find_spec("numba") is not None:
        return True
    warnings.warn(
        "numba is not installed: sampling on CPU goes through PyTorch, several times slower (pip install 'openk2[fast]')",
        stacklevel=2,
    )
    return False
