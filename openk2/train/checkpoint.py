"""Checkpoints: DCP in safetensors, written beside and renamed, so that one is whole or absent.

A checkpoint folder ``step-000123`` holds ``model/`` and ``optimizer/`` (safetensors, by parameter name) and
``state.json`` (whatever the stage needs to go on, and what the numbers depend on: torch, threads, CPU).
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from openk2.model.transformer import Transformer
from openk2.optim.muonclip import MuonClip


def save_checkpoint(
    folder: Path, step: int, model: Transformer, optimizer: MuonClip | None, state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write ``folder/step-NNNNNN`` and drop all but the newest ``keep``.

    On any error, a full disk included, the unfinished copy is removed and what was there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:06d}"
    for abandoned in folder.glob(".unfinished-*"):  # by a process that was killed
        shutil.rmtree(abandoned)
    unfinished = folder / f".unfinished-{final.name}-{os.getpid()}"
    try:
        _write_tensors(model.state_dict(), unfinished / "model")
        if optimizer is not None:
            _write_tensors(_optimizer_tensors(model, optimizer), unfinished / "optimizer")
        (unfinished / "state.json").write_text(json.dumps({"step": step, "machine": machine(), **state}))
        _sync(unfinished)
        if final.exists():
            shutil.rmtree(final)
        unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a stage, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What ``save_checkpoint`` was given as ``state``."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{checkpoint}/state.json cannot be read: {error}") from error
    return state


def load_model(checkpoint: Path, model: Transformer) -> None:
    """Fill ``model``. Raises ValueError naming the file or tensor that is missing, cut or of another shape."""
    tensors = model.state_dict()
    _read_tensors(tensors, checkpoint / "model")
    model.load_state_dict(tensors)


def load_optimizer(checkpoint: Path, model: Transformer, optimizer: MuonClip) -> None:
    """Fill ``optimizer`` with its state for ``model``; raises as ``load_model``."""
    folder = checkpoint / "optimizer"
    names = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    for key in _stored_keys(folder):
        name, _, kind = key.rpartition(".")
        if name not in names:
            raise ValueError(f"{folder} holds state for {name}, which this model does not have")
        tensors[key] = torch.zeros(() if kind == "step" else names[name].shape, device=names[name].device)
    _read_tensors(tensors, folder)
    optimizer.state.clear()
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition(".")
        # A step counter is read on the host by every optimizer kernel.
        optimizer.state[names[name]][kind] = tensor


def machine() -> dict[str, Any]:
    """What bit-identical numbers depend on, beside the recipe."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _optimizer_tensors(model: Transformer, optimizer: MuonClip) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": tensor
        for name, parameter in model.named_parameters()
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _write_tensors(tensors: Mapping[str, Tensor], folder: Path) -> None:
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder)), no_dist=True)
        except CheckpointException as error:
            cause = next(iter(error.failures.values()))[0]
            raise OSError(f"{folder} could not be written: {cause}") from error


def _read_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    """Read into the given tensors, in place."""
    missing = sorted(set(tensors) - set(_stored_keys(folder)))
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} tensors of this model, first {missing[0]}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
        except (CheckpointException, SafetensorError, ValueError, RuntimeError, OSError) as error:
            raise ValueError(
                f"{folder} does not fit this model or is damaged: {str(error).splitlines()[-1]}"
            ) from error


def _stored_keys(folder: Path) -> list[str]:
    try:
        return list(HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{folder} holds no readable safetensors: {error}") from error


def _sync(folder: Path) -> None:
    """Force everything below ``folder`` to the disk."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
