"""What an evaluation measures, and how hard it looks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EvalConfig(BaseModel):
    """How a policy is measured after each stage (K2 §4: temperature 0 for tool use, Avg@k where variance is high)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks_per_set: int = Field(512, gt=0, description="held-out tasks of each set: their pass@1 is the result table")
    temperature: float = Field(0.0, ge=0, description="sampling temperature of pass@1; 0 is greedy")
    avg_k: int = Field(4, ge=0, description="episodes per task for Avg@k; 0 leaves Avg@k out")
    avg_tasks_per_set: int = Field(64, gt=0, description="how many of a set's tasks, the first, Avg@k uses")
    avg_temperature: float = Field(1.0, gt=0, description="sampling temperature of Avg@k")
    max_turns: int = Field(8, gt=0, description="assistant turns an episode may take")
    max_tokens: int = Field(512, gt=0, description="tokens the policy may sample in an episode")
    concurrency: int = Field(64, gt=0, description="episodes in flight at once: the engine batches them")
    heldout_batches: int = Field(32, gt=0, description="micro-batches of held-out text scored for bits per byte")
    seed: int = Field(0, description="episode seeds derive from it, the task and the sample's number")

    @model_validator(mode="after")
    def _subset_fits(self) -> EvalConfig:
        if self.avg_k and self.avg_tasks_per_set > self.tasks_per_set:
            raise ValueError(f"avg_tasks_per_set {self.avg_tasks_per_set} exceeds tasks_per_set {self.tasks_per_set}")
        return self
