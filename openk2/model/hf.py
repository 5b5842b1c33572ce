"""Released checkpoints in and out: folders of safetensors with the tensor names of Hugging Face (K2 §2.3).

Our storage is fused (gate|up in one matrix, all experts of a layer in one stack); released tensors are its
row blocks. One walk over live views serves both directions.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from openk2.model.config import ModelConfig
from openk2.model.fp8 import BLOCK, dequantize_blocks, scale_shape
from openk2.model.hf_config import config_from_hf, config_to_hf
from openk2.model.shards import Shards, write_shards
from openk2.model.transformer import Transformer

_FUSED = ".gate_up_proj.weight"
_EXPERTS_IN, _EXPERTS_OUT = ".mlp.experts.gate_up", ".mlp.experts.down"
_SCALE = "_scale_inv"
_FP8 = "F8_E4M3"
_FLOATS = ("F64", "F32", "F16", "BF16")
_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def released_tensors(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a released checkpoint: its name and a live view on our storage."""
    for name, tensor in model.state_dict().items():
        released = name if name.startswith("lm_head.") else f"model.{name}"
        if name.endswith(_EXPERTS_IN):
            layer = released.removesuffix(".gate_up")
            for expert, gate_up in enumerate(tensor):
                gate, up = gate_up.chunk(2)
                yield f"{layer}.{expert}.gate_proj.weight", gate
                yield f"{layer}.{expert}.up_proj.weight", up
        elif name.endswith(_EXPERTS_OUT):
            layer = released.removesuffix(".down")
            for expert, down in enumerate(tensor):
                yield f"{layer}.{expert}.down_proj.weight", down
        elif name.endswith(_FUSED):
            mlp = released.removesuffix(_FUSED)
            gate, up = tensor.chunk(2)
            yield f"{mlp}.gate_proj.weight", gate
            yield f"{mlp}.up_proj.weight", up
        else:
            yield released, tensor


@torch.no_grad()
def load_hf(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """Load a released checkpoint, one tensor at a time: memory stays near that of the model.

    FP8 weights are dequantised. ``rotary_emb.inv_freq`` and multi-token-prediction layers are left aside.

    Args:
        folder: ``config.json`` beside ``model.safetensors`` or numbered shards with their index.
        dtype: of the parameters; the router's balance bias is always float32.

    Raises:
        ValueError: one line naming the file, key or tensors that are missing, unexpected, truncated or
            of another format. Nothing but safetensors is read.
    """
    folder = Path(folder)
    shards = Shards(folder)
    released = _read_json(folder / "config.json")
    try:
        config = config_from_hf(released)
        _check_quantization(released.get("quantization_config") or {})
        extra = _num_prediction_layers(released.get("num_nextn_predict_layers") or 0)
    except ValueError as error:
        raise ValueError(f"{folder}/{error}") from None
    model = _uninitialized(config, dtype)
    views = dict(released_tensors(model))
    _check_tensors(folder, shards, views, config.num_layers, extra)
    for name, entry in shards.entries.items():
        if name not in views:
            continue
        tensor = shards.read(name)
        if entry.dtype == _FP8:
            tensor = dequantize_blocks(tensor, shards.read(name + _SCALE))
        views[name].copy_(tensor)
    return model


@torch.no_grad()
def save_hf(
    model: Transformer, folder: Path, max_shard_bytes: int = 5_000_000_000, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Save as ``config.json`` and safetensors in the released layout.

    Written into a hidden sibling, then renamed: ``folder`` is whole or not there. The tokenizer is the caller's.

    Args:
        model: a whole model, not a pipeline stage.
        folder: must not exist.
        max_shard_bytes: size of a file; only one file's tensors are copied at a time.
        dtype: float32, float16 or bfloat16; the router's balance bias is always float32.

    Raises:
        ValueError: ``folder`` exists, or ``dtype`` is another.
        OSError: the disk is full or refuses; nothing is left behind.
    """
    folder = Path(folder)
    is_whole = model.embed_tokens and model.lm_head and len(model.layers) == model.config.num_layers
    assert is_whole, "a pipeline stage is no whole model"
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES.values())}, got {dtype}")
    if folder.exists():
        raise ValueError(f"{folder}: exists already; name a new folder or remove it")
    views = dict(released_tensors(model))
    dtypes = {name: torch.float32 if name.endswith("e_score_correction_bias") else dtype for name in views}

    def copied(name: str) -> Tensor:
        return views[name].to("cpu", dtypes[name], copy=True, memory_format=torch.contiguous_format)

    def fill(partial: Path) -> None:
        sizes = {name: view.numel() * dtypes[name].itemsize for name, view in views.items()}
        write_shards(partial, sizes, copied, max_shard_bytes)
        config = {**config_to_hf(model.config), "torch_dtype": _DTYPES[dtype]}
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    _write_whole(folder, fill)


def _write_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a hidden sibling folder, then give it its name; remove it if anything fails."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fill(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: is missing")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: no JSON object")
    return content


def _check_quantization(settings: Any) -> None:
    if not isinstance(settings, dict):
        raise ValueError(f"config.json: quantization_config must be an object, got {settings!r}")
    method, block = settings.get("quant_method", "fp8"), settings.get("weight_block_size", [BLOCK, BLOCK])
    if method != "fp8" or block != [BLOCK, BLOCK]:
        raise ValueError(
            f"config.json: quantization_config must be fp8 in blocks of [{BLOCK}, {BLOCK}], got {method} in {block}"
        )


def _num_prediction_layers(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"config.json: num_nextn_predict_layers must be a count, got {value!r}")
    return value


def _check_tensors(folder: Path, shards: Shards, views: Mapping[str, Tensor], num_layers: int, extra: int) -> None:
    """Refuse missing, unexpected or misshapen tensors before any data is read."""
    stored = shards.entries
    shapes = {name: tuple(view.shape) for name, view in views.items()}
    eight_bit = {n for n, shape in shapes.items() if len(shape) == 2 and n in stored and stored[n].dtype == _FP8}
    shapes |= {name + _SCALE: scale_shape(*shapes[name]) for name in eight_bit}
    if missing := shapes.keys() - stored.keys():
        raise ValueError(f"{folder}: lacks {_first_few(missing)}")
    ignored = {
        n for n in stored if n.endswith("rotary_emb.inv_freq") or num_layers <= _layer_of(n) < num_layers + extra
    }
    if unexpected := stored.keys() - shapes.keys() - ignored:
        raise ValueError(f"{folder}: holds tensors this model has no place for: {_first_few(unexpected)}")
    for name, shape in shapes.items():
        entry = stored[name]
        if entry.shape != shape:
            raise ValueError(f"{folder}: {name} has shape {entry.shape}, config.json asks for {shape}")
        if name not in eight_bit and entry.dtype not in _FLOATS:
            raise ValueError(f"{folder}: {name} has dtype {entry.dtype}, not {', '.join(_FLOATS)} or {_FP8}")


def _layer_of(name: str) -> int:
    found = re.match(r"model\.layers\.(\d{1,9})\.", name)
    return int(found[1]) if found else -1


def _first_few(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


class _WithoutInitialization(TorchFunctionMode):
    """Skip torch.nn.init: every value is about to be overwritten, and drawing it costs minutes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _uninitialized(config: ModelConfig, dtype: torch.dtype) -> Transformer:
    with _WithoutInitialization():
        model = Transformer(config)
    for parameter in model.parameters():
        parameter.data = torch.empty_like(parameter, dtype=dtype)
    return model
