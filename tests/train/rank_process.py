"""A rank of a job, to be started several times: ``python -m tests.train.rank_process CASE FOLDER`` with torchrun's variables."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from openk2.engine.config import EngineConfig
from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.train.config import RLConfig
from openk2.train.ranks import LostRankError, job, launched
from openk2.train.replicas import Replicas
from openk2.train.rl.ledger import Ledger
from openk2.train.rl.prompts import PromptSource
from openk2.train.rl.reinforce import reinforce, taught
from openk2.train.rl.rollout import Player
from openk2.train.step import Compute, training_step
from openk2.train.twin import Loss
from tests.train.episodes import (
    STOPS,
    BeginEnv,
    begin_env,
    make_agent,
    make_chat,
    make_groups,
    make_order,
    make_playing,
)

STEPS = 3
CPU = Compute(torch.device("cpu"))
CONFIG = RLConfig(
    steps=STEPS, micro_batch_rows=1, row_length=64, prompts_per_step=4, rollouts_per_prompt=8, families={"begin": 1.0},
    router_replay=True, importance_cap=2.0, max_tokens=12, max_turns=3,
    optim=OptimConfig(lr=0.01, adamw_lr=0.01, weight_decay=0.0),
)  # fmt: skip
LIMIT_S = 30.0


def dump(folder: Path) -> None:
    """Batches of three steps in a ledger: groups of rollouts of the first weights, with the experts of every token."""
    chat = make_chat()
    model, _ = make_agent(chat)
    playing = make_playing(
        chat, folder, rollouts_per_prompt=8, engine=EngineConfig(max_rows=64, max_context=64, record_experts=True)
    )
    ledger = Ledger(folder, {}, say=print)
    player = Player(model, playing)
    for step in range(1, STEPS + 1):
        ledger.write_batch(step, player.play(make_order(playing, make_groups(seed=step, first=4 * step))).finished)
    player.close()


def steps(folder: Path) -> list[dict[str, float]]:
    """Three steps on the dumped batches: what each tells."""
    chat = make_chat()
    model, _ = make_agent(chat)
    ledger = Ledger(folder, {}, say=print)
    optimizer = MuonClip.for_model(model, CONFIG.optim)
    told = []
    with Replicas(model) as replicas:
        for step in range(1, STEPS + 1):
            groups = ledger.batch(step)
            assert groups is not None
            _, losses = taught(groups, model, chat, CONFIG, CPU, weight_version=step - 1)
            told.append(training_step(replicas, optimizer, losses, lr_factor=1.0, balance_rate=1e-3))
            told[-1]["micro_batches"] = len(losses)
            told[-1]["bias"] = float(sum(router.e_score_correction_bias.abs().sum() for router in model.routers()))
    return told


def stage(folder: Path) -> None:
    """A whole stage: the ranks play and train."""
    chat = make_chat()
    model, _ = make_agent(chat)
    tasks = {"begin": BeginEnv().tasks("rl")}
    prompts = PromptSource(tasks, {"begin": 1.0}, most_prompts=8, rollouts_per_prompt=8, seed=0)
    engine = EngineConfig(max_rows=64, max_context=64)
    reinforce(folder, model, chat, engine, prompts, begin_env, None, CONFIG, CPU, stop_ids=STOPS, say=print)


def numbers(model: Transformer, items: Sequence[int]) -> list[tuple[int, int, float]]:
    total = float(sum(tensor.detach().double().sum() for tensor in model.state_dict().values()))
    return [(item, os.getpid(), total) for item in items]


def refuse(model: Transformer, items: Sequence[int]) -> list[int]:
    if 1 in items:
        raise ValueError("one is too many")
    return list(items)


def doubling(model: Transformer, scale: float) -> tuple[torch.Tensor, Mapping[str, float]]:
    assert model.lm_head is not None
    return scale * model.lm_head.weight.sum(), {"loss": scale}


def broken(model: Transformer) -> tuple[torch.Tensor, Mapping[str, float]]:
    raise ValueError("no such batch")


def sharing(folder: Path) -> object:
    """Work is shared out; what fails on either side leaves the next step whole."""
    model, _ = make_agent(make_chat())
    told = []
    with Replicas(model) as replicas:
        for count in (0, 1, 2, 7):
            told.append(replicas.share_out(numbers, range(count)))
            with torch.no_grad():
                next(iter(model.parameters())).add_(1.0)
        failed = []
        one: Loss = partial(doubling, scale=1.0)
        for losses in ([one, broken], [broken, one], [one, broken, one, one, broken]):
            try:
                replicas.accumulate(losses)
            except (RuntimeError, ValueError) as error:
                failed.append("no such batch" in str(error))
        try:
            replicas.share_out(refuse, range(4))
        except RuntimeError as error:
            failed.append("one is too many" in str(error))
        total, _ = replicas.accumulate([partial(doubling, scale=float(scale)) for scale in range(5)])
        assert model.lm_head is not None
        head = model.lm_head.weight
        assert head.grad is not None
        others = [parameter.grad is None for parameter in model.parameters() if parameter is not head]
        whole = [total / float(head.detach().sum()), float(head.grad.min()), float(head.grad.max()), all(others)]
        model.double()
        again = replicas.share_out(numbers, range(2))
    with Replicas(make_agent(make_chat(), seed=1)[0]) as replicas:
        other = replicas.share_out(numbers, range(2))
    return {"told": told, "failed": failed, "whole": whole, "double": again, "other": other}


def waiting(folder: Path) -> None:
    """Steps without end, for somebody to die in."""
    model, _ = make_agent(make_chat())
    with Replicas(model) as replicas:
        while True:
            replicas.accumulate([partial(sleeping, folder=folder)] * 4)


def sleeping(model: Transformer, folder: Path) -> tuple[torch.Tensor, Mapping[str, float]]:
    (folder / f"at-{os.environ['RANK']}").touch()
    time.sleep(0.2)
    return doubling(model, 1.0)


def stuck(folder: Path) -> None:
    """A rank that stops without dying."""
    model, _ = make_agent(make_chat())
    with Replicas(model) as replicas:
        replicas.share_out(stop, range(2))


def stop(model: Transformer, items: Sequence[int]) -> list[int]:
    if 1 in items:
        os.kill(os.getpid(), signal.SIGSTOP)
    return list(items)


def main(case: str, folder: Path, limit_s: float) -> int:
    torch.set_num_threads(1)
    cases = {"steps": steps, "stage": stage, "sharing": sharing, "waiting": waiting, "stuck": stuck}
    if not launched():
        (folder / "told.json").write_text(json.dumps(cases[case](folder)))
        return 0
    try:
        with job(limit_s) as leads:
            if leads:
                (folder / "told.json").write_text(json.dumps(cases[case](folder)))
    except LostRankError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else LIMIT_S))
