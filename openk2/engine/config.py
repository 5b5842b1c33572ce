"""What can be set about the engine."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator


class EngineConfig(BaseModel):
    """Memory and batch limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_rows: PositiveInt = Field(256, description="sequences sampled at once: the largest decode batch")
    max_context: PositiveInt = Field(1024, description="tokens of one sequence, prompt and answer together")
    page_tokens: PositiveInt = Field(16, description="tokens of a cache page: what prompts share")
    cache_tokens: PositiveInt | None = Field(None, description="tokens cached in all; None: max_rows full contexts")
    prefill_tokens: PositiveInt = Field(4096, description="prompt tokens computed between two decode steps")
    record_experts: bool = Field(False, description="keep each token's expert choices, for router replay")

    @property
    def num_pages(self) -> int:
        """Pages of the cache."""
        pages_of_a_row = -(-self.max_context // self.page_tokens)
        if self.cache_tokens is None:
            return self.max_rows * pages_of_a_row
        return self.cache_tokens // self.page_tokens

    @model_validator(mode="after")
    def _one_sequence_fits(self) -> Self:
        needed = -(-self.max_context // self.page_tokens)
        if self.num_pages < needed:
            raise ValueError(
                f"cache_tokens {self.cache_tokens} holds {self.num_pages} pages of {self.page_tokens}; "
                f"one sequence of max_context {self.max_context} takes {needed}"
            )
        return self
