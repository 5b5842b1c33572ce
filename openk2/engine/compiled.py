"""Whether few tokens at a time are computed by compiled kernels: on a CPU, where numba is installed."""

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
    """True for contiguous weights on a CPU, all float32 or all bfloat16; where numba is missing, says so once."""
    weights, biases = list(model.parameters()), [router.e_score_correction_bias for router in model.routers()]
    fits = all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in (*weights, *biases))
    types, bias_types = {weight.dtype for weight in weights}, {bias.dtype for bias in biases}
    simple = len(types) == 1 and len(bias_types) <= 1 and types | bias_types <= {torch.float32, torch.bfloat16}
    return fits and simple and _has_numba()


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
