"""Reinforcement learning with verifiable rewards: roll out, score, update, again (K2 §3.2)."""

from __future__ import annotations

import functools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openk2.agent import Budget
from openk2.engine.config import EngineConfig
from openk2.model.transformer import Transformer
from openk2.schema import Env, Sampling, Trace
from openk2.text.chat import ChatFormat
from openk2.train.config import RLConfig
from openk2.train.dialogues import DialogueStream
from openk2.train.objective import group_advantages, mixed_group_share, sequence_loss, token_logprobs, token_loss
from openk2.train.prompts import ChoiceLog, PromptSource
from openk2.train.rollout import PolicyBatch, Rollouts, policy_batches, reward
from openk2.train.step import Batch, Compute, language_model_losses
from openk2.train.trainer import Trainer
from openk2.train.twin import Loss

OBJECTIVES = {"sequence": sequence_loss, "token": token_loss}


def reinforce(
    folder: Path,
    model: Transformer,
    chat: ChatFormat,
    engine: EngineConfig,
    prompts: PromptSource,
    make_env: Callable[[str], Env],
    dialogues: DialogueStream | None,
    config: RLConfig,
    compute: Compute,
    *,
    stop_ids: frozenset[int] | None = None,
    on_metrics: Callable[[Mapping[str, float]], None] = lambda _: None,
    say: Callable[[str], None] = print,
) -> Trainer:
    """Run the stage: for each step K rollouts of every prompt, one update on those that differ in reward.

    The processes that train also play, in turn (K2 §3.3, colocated): their engines sample from the very weights, and
    while one side works the other's memory is given back. ``dialogues`` feed the PTX loss where its weight is not 0;
    ``stop_ids`` end a turn, by default those of the chat format.
    """
    sources = _Sources(prompts, dialogues)
    trainer = Trainer("rl", folder, model, config, sources, on_metrics=on_metrics, say=say)
    budget = Budget(config.max_turns, config.max_tokens, config.row_length)
    with trainer, ChoiceLog(folder, from_step=trainer.step) as chosen:
        while not trainer.finished:
            first, last = config.temperature
            temperature = first + (last - first) * trainer.progress
            started = time.perf_counter()
            trainer.sleep()
            rollouts = Rollouts(
                chat=chat,
                engine=engine,
                make_env=make_env,
                rollouts_per_prompt=config.rollouts_per_prompt,
                seed=prompts.seed * 1_000_003 + trainer.step,
                sampling=Sampling(temperature=temperature, max_tokens=config.max_tokens),
                budget=budget,
                weight_version=trainer.step,
                stop_ids=stop_ids,
            )
            groups = trainer.replicas.share_out(rollouts.play, prompts.draw())
            chosen.add(trainer.step + 1, prompts.choices)
            seconds = time.perf_counter() - started
            traces = [trace for group in groups for trace in group]
            told = _describe(groups)
            rewards_S = torch.tensor([reward(trace) for trace in traces])
            groups_S = torch.arange(len(groups)).repeat_interleave(config.rollouts_per_prompt)
            told["mixed_groups"] = mixed_group_share(rewards_S, groups_S)
            prompts.learn(rewards_S.view(len(groups), -1).tolist())
            told |= {f"mixed/{kind}": share for kind, share in prompts.mixed().items()}
            advantages = group_advantages(rewards_S, groups_S).tolist()
            # On policy the log-ratio is 0, so a sample without advantage has no gradient: leave it out.
            teaching = [i for i, advantage in enumerate(advantages) if advantage != 0.0]
            batches = policy_batches(
                [traces[i] for i in teaching],
                [advantages[i] for i in teaching],
                row_length=config.row_length,
                micro_batch_rows=config.micro_batch_rows,
                pad_id=chat.tokenizer.pad_id,
                device=compute.device,
            )
            losses = _losses(batches, dialogues, config, compute, temperature, len(traces))
            num_tokens = sum(len(traces[i].token_ids) for i in teaching)
            trainer.update(list(losses), num_tokens=num_tokens, extra={**told, "rollout_seconds": seconds})
    return trainer


class _Sources:
    """The prompts and the PTX dialogues, resumed together."""

    def __init__(self, prompts: PromptSource, dialogues: DialogueStream | None) -> None:
        self.prompts, self.dialogues = prompts, dialogues

    def batch_ids(self) -> str:
        return self.prompts.batch_ids()

    def state_dict(self) -> dict[str, Any]:
        return {"prompts": self.prompts.state_dict(), "ptx": self.dialogues.state_dict() if self.dialogues else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.prompts.load_state_dict(state["prompts"])
        if self.dialogues is not None:
            self.dialogues.load_state_dict(state["ptx"])


def _losses(
    batches: Iterator[PolicyBatch],
    dialogues: DialogueStream | None,
    config: RLConfig,
    compute: Compute,
    temperature: float,
    num_samples: int,
) -> Iterator[Loss]:
    for batch in batches:
        yield functools.partial(
            _policy_loss,
            batch=batch,
            config=config,
            compute=compute,
            temperature=temperature,
            num_samples=num_samples,
        )
    if dialogues is not None and config.ptx_weight > 0:
        rows = Batch.from_rows(dialogues.next_rows(), compute.device)
        for loss_of in language_model_losses(
            rows, compute, micro_batch_rows=config.micro_batch_rows, weight=config.ptx_weight
        ):
            yield functools.partial(_renamed, loss_of=loss_of)


def _policy_loss(
    model: Transformer,
    batch: PolicyBatch,
    config: RLConfig,
    compute: Compute,
    temperature: float,
    num_samples: int,
) -> tuple[Tensor, Mapping[str, float]]:
    rows = batch.rows
    assert model.lm_head is not None
    with compute.autocast():
        hidden_BTD = model.hidden(rows.tokens_BT, positions=rows.positions_BT, doc_ids=rows.doc_ids_BT)
    hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.positions_N)
    head = compute.head(hidden_ND, model.lm_head.weight)
    logprobs_N = token_logprobs(*head, batch.targets_N, temperature=temperature)
    loss = OBJECTIVES[config.objective](
        batch.spread(logprobs_N),
        batch.old_logprobs_ST,
        batch.mask_ST,
        batch.advantages_S,
        tau=config.tau,
        num_samples=num_samples,
    )
    return loss.loss, {"loss": float(loss.loss.detach()), "kl": float(loss.kl), "log_ratio": float(loss.log_ratio)}


def _renamed(model: Transformer, loss_of: Loss) -> tuple[Tensor, Mapping[str, float]]:
    loss, metrics = loss_of(model)
    return loss, {"ptx_loss": metrics["loss"]}


def _describe(groups: Sequence[Sequence[Trace]]) -> dict[str, float]:
    """What the rollouts of a step were like, in all and by family."""
    traces = [trace for group in groups for trace in group]
    told = {
        "reward": float(np.mean([reward(trace) for trace in traces])),
        "pass_rate": float(np.mean([reward(trace) >= 1.0 for trace in traces])),
        "response_tokens": float(np.mean([trace.num_sampled for trace in traces])),
        "truncated": float(np.mean([trace.stop_reason != "done" for trace in traces])),
    }
    broken = Counter(trace.info["trouble"] for trace in traces if trace.stop_reason == "env_error")
    told |= {f"broken/{trouble}": float(count) for trouble, count in broken.items()}
    by_family: dict[str, list[float]] = defaultdict(list)
    for trace in traces:
        by_family[trace.info["family"]].append(float(reward(trace) >= 1.0))
    told.update({f"pass_rate/{family}": float(np.mean(passes)) for family, passes in sorted(by_family.items())})
    return told
