"""The knobs of the text room."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TokenizerConfig(BaseModel):
    """How to train a tokenizer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(gt=0, description="All ids: bytes, merges, atoms and special tokens.")
    splitting: Literal["k2", "copy"] = Field(
        "k2",
        description="What merges may not cross: K2's patterns, or (tiny models) every digit, mark, space run and word.",
    )
    json_atoms: bool = Field(
        False, description="Give the fixed boilerplate of tool JSON and turn headers one token a piece."
    )
    train_chars: int = Field(3_000_000, gt=0, description="Characters of the corpus that merges are learnt from.")
