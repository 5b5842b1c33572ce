"""Reinforcement learning: roll out, score, update, again (K2 §3.2, §3.3)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import Tensor

from openk2.engine.config import EngineConfig
from openk2.engine.fingerprint import fingerprint
from openk2.model.transformer import Transformer
from openk2.schema import Env
from openk2.text.chat import ChatFormat
from openk2.train.config import CriticTrainingConfig, RLConfig
from openk2.train.dialogues import DialogueStream
from openk2.train.objective import sequence_loss, token_logprobs, token_loss
from openk2.train.rl.controller import Controller
from openk2.train.rl.critic import CriticLoop, endpoint_judge, policy_judge
from openk2.train.rl.learnable import Sample, learnable
from openk2.train.rl.players import MakePlayers
from openk2.train.rl.prompts import ChoiceLog, PromptSource
from openk2.train.rl.rollout import Group, MakeJudge, Playing
from openk2.train.rl.samples import PolicyBatch, policy_batches
from openk2.train.rl.told import describe
from openk2.train.step import Batch, Compute, language_model_losses
from openk2.train.trainer import Trainer
from openk2.train.twin import Loss

OBJECTIVES = {"sequence": sequence_loss, "token": token_loss}
MOST_EMPTY_STEPS = 10
"""In a row: a judge that is gone, or environments that all break, should not go unnoticed for longer."""


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
    make_players: MakePlayers | None = None,
    on_metrics: Callable[[Mapping[str, float]], None] = lambda _: None,
    say: Callable[[str], None] = print,
) -> Trainer:
    """Run the stage: each step learns from K rollouts of every one of its prompts.

    The processes that train also play, in turn (K2 §3.3, colocated): their engines sample from the very weights, and
    while one side works the other's memory is given back. ``dialogues`` feed the PTX loss where its weight is not 0;
    ``stop_ids`` end a turn, by default those of the chat format.
    """
    sources = _Sources(prompts, dialogues)
    trainer = Trainer("rl", folder, model, config, sources, on_metrics=on_metrics, say=say)
    playing = Playing(
        chat=chat,
        engine=engine.model_copy(update={"record_experts": config.router_replay}),
        make_env=make_env,
        folder=folder / "rollouts",
        rollouts_per_prompt=config.rollouts_per_prompt,
        max_turns=config.max_turns,
        max_tokens=config.max_tokens,
        context=config.row_length,
        budgets=config.budgets,
        truncation_penalty=config.truncation_penalty,
        env_seconds=config.env_seconds,
        stop_ids=stop_ids,
        judged=frozenset(config.critic.families if config.critic else ()),
        verified_share=config.critic.verified_share if config.critic else 0.0,
        make_judge=_make_judge(config.critic, chat),
    )
    critic = None if config.critic is None else _critic_loop(config.critic, config, chat, playing.engine, compute)
    identity = {
        "policy": fingerprint(model),
        "tokenizer": chat.tokenizer.hash,
        "seed": prompts.seed,
        "prompts": [config.prompts_per_step, config.in_flight, config.rollouts_per_prompt],
    }
    empty_steps = 0
    players = make_players(model, playing) if make_players is not None else None
    with (
        trainer,
        ChoiceLog(folder, from_step=trainer.step) as chosen,
        closing(
            Controller(trainer, playing, config, identity, seed=prompts.seed, say=say, players=players)
        ) as controller,
    ):
        while not trainer.finished:
            first, last = config.temperature
            temperature = first + (last - first) * trainer.progress
            tasks = prompts.draw(controller.num_wanted(trainer.step + 1))
            chosen.add(trainer.step + 1, prompts.choices)
            groups = sources.groups = controller.groups(trainer.step + 1, tasks, temperature)
            samples, losses = taught(groups, model, chat, config, compute, weight_version=trainer.step)
            told = {"temperature": temperature, **controller.told, **describe(groups, samples)}
            empty_steps = 0 if any(group.rewards() for group in groups) else empty_steps + 1
            if empty_steps == MOST_EMPTY_STEPS:
                raise NothingToLearnError(_why_empty(told, trainer.step + 1))
            prompts.learn((group.task, rewards) for group in groups if (rewards := group.rewards()))
            told |= {f"mixed/{kind}": share for kind, share in prompts.mixed().items()}
            if critic is not None:
                pairs = critic.pairs(groups)
                if critic.is_due(trainer.step + 1):
                    told |= critic.measure(trainer.replicas, pairs, trainer.timeline)
                losses += critic.losses(pairs, trainer.step)
            if dialogues is not None and config.ptx_weight > 0:
                losses += _ptx_losses(dialogues, config, compute)
            num_tokens = sum(len(sample.trace.token_ids) for sample in samples)
            trainer.update(losses, num_tokens=num_tokens, extra=told)
    return trainer


class NothingToLearnError(FloatingPointError):
    """Step after step no rollout could be used; nothing was updated."""


class _Sources:
    """The prompts and the PTX dialogues, resumed together. ``groups`` are what the step under way learns from."""

    groups: Sequence[Group] = ()

    def __init__(self, prompts: PromptSource, dialogues: DialogueStream | None) -> None:
        self.prompts, self.dialogues = prompts, dialogues

    def batch_ids(self) -> str:
        return "groups " + " ".join(f"{group.number} ({group.task.id})" for group in self.groups)

    def state_dict(self) -> dict[str, Any]:
        return {"prompts": self.prompts.state_dict(), "ptx": self.dialogues.state_dict() if self.dialogues else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.prompts.load_state_dict(state["prompts"])
        if self.dialogues is not None:
            self.dialogues.load_state_dict(state["ptx"])


def _make_judge(config: CriticTrainingConfig | None, chat: ChatFormat) -> MakeJudge | None:
    if config is None:
        return None
    if config.endpoint is None:
        return functools.partial(policy_judge, chat=chat, config=config.compare)
    return functools.partial(
        endpoint_judge, endpoint=config.endpoint, groupwise=config.groupwise, config=config.compare
    )


def _critic_loop(
    critic: CriticTrainingConfig, config: RLConfig, chat: ChatFormat, engine: EngineConfig, compute: Compute
) -> CriticLoop:
    return CriticLoop(
        critic, chat, engine, compute, row_length=config.row_length, micro_batch_rows=config.micro_batch_rows
    )


def taught(
    groups: Sequence[Group],
    model: Transformer,
    chat: ChatFormat,
    config: RLConfig,
    compute: Compute,
    *,
    weight_version: int,
) -> tuple[list[Sample], list[Loss]]:
    """What these groups teach weights of that version: the samples, and the objective of each micro-batch of them."""
    samples = learnable(
        groups,
        weight_version=weight_version,
        max_staleness=config.max_staleness,
        tokenizer_hash=chat.tokenizer.hash,
        needs_experts=config.router_replay,
    )
    losses = _policy_losses(
        samples,
        config,
        compute,
        pad_id=chat.tokenizer.pad_id,
        num_experts=model.config.num_experts,
        num_samples=sum(len(group.rewards()) for group in groups),
    )
    return samples, losses


def _policy_losses(
    samples: Sequence[Sample], config: RLConfig, compute: Compute, *, pad_id: int, num_experts: int, num_samples: int
) -> list[Loss]:
    """The objective of a step's samples, one function for each micro-batch.

    Its mean is over ``num_samples``, those of groups that teach nothing included; what is told beside it, over ``samples``.
    """
    batches = policy_batches(
        [sample.trace for sample in samples],
        [sample.advantage for sample in samples],
        row_length=config.row_length,
        micro_batch_rows=config.micro_batch_rows,
        pad_id=pad_id,
        device=compute.device,
        num_experts=num_experts if config.router_replay else 0,
    )
    return [
        functools.partial(
            _policy_loss,
            batch=batch,
            config=config,
            compute=compute,
            num_samples=num_samples,
            num_learnt=len(samples),
        )
        for batch in batches
    ]


def _policy_loss(
    model: Transformer, batch: PolicyBatch, config: RLConfig, compute: Compute, num_samples: int, num_learnt: int
) -> tuple[Tensor, Mapping[str, float]]:
    rows = batch.rows
    assert model.lm_head is not None
    with compute.autocast():
        hidden_BTD = model.hidden(
            rows.tokens_BT, positions=rows.positions_BT, doc_ids=rows.doc_ids_BT, routing=batch.routing()
        )
    hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.positions_N)
    head = compute.head(hidden_ND, model.lm_head.weight)
    logprobs_N = token_logprobs(*head, batch.targets_N, temperature=batch.temperatures_N)
    loss = OBJECTIVES[config.objective](
        batch.spread(logprobs_N),
        batch.old_logprobs_ST,
        batch.mask_ST,
        batch.advantages_S,
        tau=config.tau,
        num_samples=num_samples,
        importance_cap=config.importance_cap,
    )
    of_learnt = num_samples / num_learnt
    watched = {name: float(getattr(loss, name)) * of_learnt for name in ("kl", "log_ratio", "importance", "capped")}
    return loss.loss, {"loss": float(loss.loss.detach()), **watched}


def _ptx_losses(dialogues: DialogueStream, config: RLConfig, compute: Compute) -> list[Loss]:
    rows = Batch.from_rows(dialogues.next_rows(), compute.device)
    return language_model_losses(
        rows, compute, micro_batch_rows=config.micro_batch_rows, weight=config.ptx_weight, name="ptx_loss"
    )


def _why_empty(told: Mapping[str, float], step: int) -> str:
    reasons = ", ".join(f"{name} {count:.0f}" for name, count in told.items() if name.startswith("dropped/"))
    return f"rl: {MOST_EMPTY_STEPS} steps in a row had no rollout to learn from, the last one step {step} ({reasons})"
