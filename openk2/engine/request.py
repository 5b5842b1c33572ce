"""One sequence to continue: what was asked for, and what has been drawn so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from openk2.engine.pages import Ints
from openk2.engine.stops import StopWatch
from openk2.schema import Sampled, Sampling


class Drawn(NamedTuple):
    """A token, its log-probability, and the most probable tokens in its place, best first."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


class Constraint(Protocol):
    """What a grammar allows next."""

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, [V]; at least one."""
        ...

    def accept(self, token_id: int) -> None:
        """That token came."""
        ...


@dataclass(slots=True, eq=False)
class Request:
    """A prompt, how to continue it, and the continuation."""

    prompt: Ints
    sampling: Sampling
    seed: int
    limit: int
    """Tokens, prompt included, at which it ends."""
    num_given: int
    """Tokens before its first: the prompt, unless some of that was sampled before a pause."""
    top_logprobs: int = 0
    wants_experts: bool = False
    constraint: Constraint | None = None
    stops: StopWatch | None = None
    cancelled: bool = False
    num_cached: int = 0
    """Prompt tokens that needed no computation."""
    drawn: list[Drawn] = field(default_factory=list)
    weight_versions: list[int] = field(default_factory=list)
    """Of the weights that drew each."""
    result: Sampled | None = None
    error: Exception | None = None
    """Why it, and it alone, cannot go on."""
    latents_NTL: Tensor | None = None
    """Latents it came with, or leaves with when paused, computed by the weights of this ``fingerprint``."""
    fingerprint: str = ""
    keep_latents: bool = False

    @property
    def tokens(self) -> Ints:
        """All tokens known so far."""
        return np.concatenate((self.prompt, np.array([drawn.token_id for drawn in self.drawn], dtype=np.int64)))

    def finish(
        self,
        reason: Literal["stop", "length", "abort"],
        weight_version: int,
        *,
        stop_text: str | None = None,
        experts: Tensor | None = None,
    ) -> None:
        """Nothing more will be drawn."""
        self.result = Sampled(
            [drawn.token_id for drawn in self.drawn],
            [drawn.logprob for drawn in self.drawn],
            reason,
            weight_version,
            None if experts is None else experts.cpu().numpy().astype(np.int16),
            stop_text,
            self.weight_versions if len(set(self.weight_versions)) > 1 else None,
        )


@dataclass(frozen=True, slots=True)
class Paused:
    """A request set aside: it goes on exactly where it stood, here or in another process (K2 §3.3, partial rollout).

    Draws depend on seed and position alone, so under the same weights the continuation is the one that would have
    come without the pause. ``latents_NTL`` spare computing the tokens again; other weights, known by their
    ``fingerprint``, do not use them.
    """

    token_ids: list[int]
    num_given: int
    limit: int
    sampling: Sampling
    seed: int
    top_logprobs: int
    wants_experts: bool
    fingerprint: str
    latents_NTL: Tensor | None = None

    def save(self, path: Path) -> None:
        """Write one safetensors file; it appears whole or not at all."""
        stored = _Stored(**{name: getattr(self, name) for name in _Stored.model_fields})
        latents = torch.empty(0) if self.latents_NTL is None else self.latents_NTL.contiguous()
        unfinished = path.with_name(f".{path.name}.part")
        save_file({"latents": latents}, unfinished, metadata={"paused": stored.model_dump_json()})
        unfinished.rename(path)

    @classmethod
    def load(cls, path: Path) -> Paused:
        """Read what ``save`` wrote. Raises ValueError naming the file when it is something else or damaged."""
        try:
            with safe_open(path, "pt") as file:
                stored = _Stored.model_validate_json((file.metadata() or {})["paused"])
                latents = file.get_tensor("latents")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is no paused request: {str(error).splitlines()[0]}") from error
        state = {name: getattr(stored, name) for name in _Stored.model_fields}
        return cls(**state, latents_NTL=latents if latents.numel() else None)


class _Stored(BaseModel):
    """What the file says beside the latents."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token_ids: list[NonNegativeInt]
    num_given: NonNegativeInt
    limit: NonNegativeInt
    sampling: Sampling
    seed: int = Field(ge=0, lt=2**64)
    top_logprobs: NonNegativeInt
    wants_experts: bool
    fingerprint: str
