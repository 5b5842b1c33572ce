"""A stage that trains: counts, schedule, metrics, checkpoints and resumption around ``training_step``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch

from openk2.model.transformer import Transformer
from openk2.optim.muonclip import MuonClip
from openk2.optim.schedule import learning_rate
from openk2.train.checkpoint import checkpoints, load_model, load_optimizer, machine, read_state, save_checkpoint
from openk2.train.config import StageConfig
from openk2.train.interrupt import Interrupt
from openk2.train.metrics import MetricsLog
from openk2.train.replicas import Replicas
from openk2.train.step import NonFiniteLossError, training_step
from openk2.train.timeline import Timeline, TimelineLog
from openk2.train.twin import Loss


class Resumable(Protocol):
    """A source of batches that can say where it stands and go back there."""

    def batch_ids(self) -> str:
        """What the last batch is made of, in words."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


class Trainer:
    """One stage in one folder. Use as a context manager; ``step`` counts the finished optimizer steps.

    Entering resumes from the newest checkpoint in the folder and says so through ``say``; a step that is
    done twice because of an interruption gives the same numbers (same torch, threads and CPU). Ctrl-C lets
    the step under way end and saves it, so that nothing is done twice; a second Ctrl-C does not wait.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        model: Transformer,
        config: StageConfig,
        source: Resumable,
        *,
        num_steps: int | None = None,
        on_metrics: Callable[[Mapping[str, float]], None] = lambda _: None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.name, self.folder, self.model, self.config, self.source = name, folder, model, config, source
        self.num_steps = num_steps or config.steps
        self.optimizer = MuonClip.for_model(model, config.optim)
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.timeline = Timeline()
        self._on_metrics, self._say = on_metrics, say

    @property
    def progress(self) -> float:
        """Part of the stage that is done, in [0, 1]."""
        return self.step / self.num_steps

    @property
    def finished(self) -> bool:
        """True when all steps are done."""
        return self.step >= self.num_steps

    def __enter__(self) -> Self:
        found = checkpoints(self.folder / "checkpoints")
        if found:
            self._load(found[-1])
            self._say(f"{self.name}: resuming after step {self.step} of {self.num_steps} ({found[-1]})")
        self.replicas = Replicas(self.model)
        self._log = MetricsLog(self.folder, from_step=self.step)
        self._spans = TimelineLog(self.folder, from_step=self.step)
        self._interrupt = Interrupt(lambda: self._say(f"{self.name}: ending this step; Ctrl-C again stops at once"))
        self._interrupt.__enter__()
        self._since = time.perf_counter()
        self.timeline = Timeline()
        return self

    def __exit__(self, *_: object) -> None:
        self._interrupt.__exit__()
        self._log.close()
        self._spans.close()
        self.replicas.close()

    def update(
        self, losses: Sequence[Loss], *, num_tokens: int, extra: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Take one step on these micro-batches; log it; save when due. ``num_tokens`` went through the model."""
        with self.timeline.span("switch"):
            self._move_optimizer(next(self.model.parameters()).device)
        self.tokens += num_tokens
        factor = learning_rate(self.config.schedule, tokens=self.tokens, progress=(self.step + 0.5) / self.num_steps)
        try:
            metrics = training_step(
                self.replicas,
                self.optimizer,
                losses,
                lr_factor=factor,
                balance_rate=self.config.balance_rate,
                timeline=self.timeline,
            )
        except NonFiniteLossError as error:
            found = checkpoints(self.folder / "checkpoints")
            last = found[-1] if found else "none yet"
            raise NonFiniteLossError(
                f"{self.name}: {error} at step {self.step + 1}; last good checkpoint: {last}; "
                f"batch: {self.source.batch_ids()}"
            ) from error
        self.step += 1
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        self.seconds += elapsed
        row = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            **metrics,
            "tokens_per_second": num_tokens / elapsed,
            "idle_share": self.timeline.idle_share(),
            **(extra or {}),
        }
        self._log.write(row)
        self._spans.add(self.step, self.timeline.take())
        self._on_metrics(row)
        if self.step % self.config.checkpoint_every == 0 or self.finished or self._interrupt.asked:
            with self.timeline.span("save"):
                self.save()
        if self._interrupt.asked:
            raise KeyboardInterrupt
        return row

    def sleep(self) -> None:
        """Give memory to the engine on the same device (K2 §3.3): gradients go, the optimizer's state moves to the host.

        The next ``update`` brings it back.
        """
        with self.timeline.span("switch"):
            self.replicas.sleep()
            self._move_optimizer(torch.device("cpu"))

    def _move_optimizer(self, device: torch.device) -> None:
        for state in self.optimizer.state.values():
            for kind, value in state.items():
                if kind != "step":  # a counter, read on the host
                    state[kind] = value.to(device)

    def save(self) -> Path:
        """A checkpoint of everything the next step depends on."""
        state = {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "source": self.source.state_dict(),
        }
        return save_checkpoint(
            self.folder / "checkpoints",
            self.step,
            self.model,
            self.optimizer,
            state,
            keep=self.config.keep_checkpoints,
        )

    def _load(self, checkpoint: Path) -> None:
        state = read_state(checkpoint)
        if state["machine"] != machine():
            self._say(f"{self.name}: begun on {state['machine']}, now {machine()}: the last bits may differ")
        load_model(checkpoint, self.model)
        load_optimizer(checkpoint, self.model, self.optimizer)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.source.load_state_dict(state["source"])
