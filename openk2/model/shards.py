"""A folder of safetensors files, read and written as one set of named tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file's header says of one tensor; ``dtype`` as safetensors writes it ("BF16", "F8_E4M3", …)."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


class Shards:
    """The headers of all files at once, tensors only when asked for.

    One file is mapped at a time, so that pages already read are let go: read in the order of ``entries``.
    Raises ValueError, in one line naming the file, for pickles, missing files, truncated or foreign ones.
    """

    def __init__(self, folder: Path) -> None:
        self.entries: dict[str, Entry] = {}
        for file in _files_in(folder):
            opened = self._open(file)
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if name in self.entries:
                    raise ValueError(f"{file}: tensor {name} is in another shard too")
                header = opened.get_slice(name)
                self.entries[name] = Entry(file, tuple(header.get_shape()), str(header.get_dtype()))

    def read(self, name: str) -> Tensor:
        """The tensor."""
        file = self.entries[name].file
        if file != self._file:
            self._open(file)
        return self._opened.get_tensor(name)

    def _open(self, file: Path) -> Any:
        try:
            # safe_open has no types.
            self._file, self._opened = file, cast(Any, safe_open(file, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: not a whole safetensors file ({error})") from None
        return self._opened


def _files_in(folder: Path) -> list[Path]:
    if folder.suffix in _PICKLES:
        raise ValueError(f"{folder}: a pickle can run code, only safetensors are read")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    index = folder / INDEX
    if index.exists():
        try:
            listed = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{index}: no JSON object with a weight_map from tensor to file") from None
        for name in listed:
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise ValueError(f"{index}: {name!r} is no safetensors file of this folder")
            if not (folder / name).is_file():
                raise ValueError(f"{index}: names {name}, which is not there")
        return [folder / name for name in listed]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles:
        raise ValueError(f"{folder / pickles[0]}: a pickle can run code, only safetensors are read")
    raise ValueError(f"{folder}: holds neither {SINGLE} nor {INDEX}")


def write_shards(folder: Path, sizes: Mapping[str, int], tensor: Callable[[str], Tensor], max_shard_bytes: int) -> None:
    """Write tensors into ``folder`` in files of at most ``max_shard_bytes`` (a larger tensor gets its own).

    ``sizes`` names the tensors in order, with their bytes; ``tensor`` gives one, and only those of one file are
    held at once. One file is named ``model.safetensors``; several are numbered and listed in an index.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        _write(folder / SINGLE, shards[0], tensor)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write(folder / file, names, tensor)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write(file: Path, names: Iterable[str], tensor: Callable[[str], Tensor]) -> None:
    try:
        save_file({name: tensor(name) for name in names}, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{file}: {error}") from None
