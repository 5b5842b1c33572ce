"""The knobs of the data room."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SourceConfig(BaseModel):
    """One source of documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["python", "knowledge", "copying", "files"] = Field(
        description="python: the running Python's own sources and documentation; knowledge, copying: generated; "
        "files: JSONL, parquet or text at `path`."
    )
    label: str = Field("", description="A name of its own; needed where a kind comes twice.")
    weight: float = Field(gt=0, description="Share of the tokens of the stream, relative to the other sources.")
    max_tokens: int | None = Field(None, gt=0, description="Stop reading after this many. Generated kinds need it.")
    path: Path | None = Field(None, description="A file or a folder, for files.")
    text_field: str = Field("text", description="Where the text lies in JSONL and parquet.")

    @property
    def name(self) -> str:
        """What the source is called in folders and messages."""
        return self.label or self.kind

    @model_validator(mode="after")
    def _fits_its_kind(self) -> SourceConfig:
        if (self.kind == "files") != (self.path is not None):
            raise ValueError(f"data source {self.name!r}: `path` is for kind 'files', and needed there")
        if self.kind in ("knowledge", "copying") and self.max_tokens is None:
            raise ValueError(f"data source {self.name!r}: generated text never ends, set `max_tokens`")
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"data source {self.name!r}: a label is letters, digits, '-' and '_'")
        return self


class DataConfig(BaseModel):
    """What to pre-train on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[SourceConfig, ...] = Field(min_length=1, description="Where documents come from.")
    heldout_fraction: float = Field(0.05, gt=0, lt=1, description="Share of documents never trained on.")
    seed: int = Field(0, ge=0, description="Seeds generators, reading order and shuffling.")

    @model_validator(mode="after")
    def _names_differ(self) -> DataConfig:
        twice = [name for name, count in Counter(source.name for source in self.sources).items() if count > 1]
        if twice:
            raise ValueError(f"two data sources are called {twice[0]!r}: give one another `label`")
        return self
