"""Telling weights apart, so that what one model computed is never another's."""

from __future__ import annotations

import hashlib

from openk2.model.transformer import Transformer

_NUMBERS_OF_A_TENSOR = 16


def fingerprint(model: Transformer) -> str:
    """A digest of some numbers of every tensor: cheap, and any training step changes it."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        some = tensor.flatten()[:: max(1, tensor.numel() // _NUMBERS_OF_A_TENSOR)]
        digest.update(f"{name}{tuple(tensor.shape)}{some.float().tolist()}".encode())
    return digest.hexdigest()
