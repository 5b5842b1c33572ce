"""Micro-batches side by side in processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from openk2.model.transformer import Transformer
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip
from openk2.train.replicas import Replicas
from openk2.train.step import Batch, Compute, language_model_losses, training_step
from openk2.train.twin import Loss
from tests.jobs.test_lifeline import is_alive
from tests.train.conftest import CountingRows


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.fixture
def losses(cpu: Compute) -> Sequence[Loss]:
    batch = Batch.from_rows(next(iter(CountingRows())), cpu.device)
    return language_model_losses(batch, cpu, micro_batch_rows=1)


@pytest.mark.parametrize("processes", [2, 3])  # for 4 micro-batches: two each, and one left over
def test_processes_add_up_to_what_one_finds(model: Transformer, losses: Sequence[Loss], processes: int) -> None:
    model.double().train()
    expected, told = Replicas(model, 1).accumulate(losses)
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    loads = [router.load_E.clone() for router in model.routers()]
    logits = [attention.max_logits_H.clone() for attention in model.attentions()]

    with Replicas(model, processes) as replicas:
        for _ in range(2):
            for router in model.routers():
                router.load_E.zero_()
            for attention in model.attentions():
                attention.max_logits_H.fill_(-torch.inf)
            loss, same = replicas.accumulate(losses)
            assert loss == pytest.approx(expected, rel=1e-6)  # the loss sums in fp32
            assert same == pytest.approx(told, rel=1e-6)
            assert {span.worker for span in replicas.spans} == set(range(processes))
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-8)
            assert all(torch.equal(r.load_E, load) for r, load in zip(model.routers(), loads, strict=True))
            assert all(torch.equal(a.max_logits_H, seen) for a, seen in zip(model.attentions(), logits, strict=True))


def test_every_step_is_on_the_moved_weights_and_repeats_to_the_bit(model: Transformer, losses: Sequence[Loss]) -> None:
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = []
    with Replicas(model, 2) as replicas:
        for _ in range(2):
            model.load_state_dict(start)
            optimizer = MuonClip.for_model(model, OptimConfig(lr=0.02))
            told = [training_step(replicas, optimizer, losses, lr_factor=1.0, balance_rate=1e-2) for _ in range(5)]
            found.append(([step["loss"] for step in told], {n: t.clone() for n, t in model.state_dict().items()}))
    assert found[0][0][-1] < found[0][0][0]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(tensor, found[1][1][name]) for name, tensor in found[0][1].items())


def broken(_: Transformer) -> tuple[torch.Tensor, Mapping[str, float]]:
    raise ValueError("no such batch")


def bewildered(_: Transformer) -> tuple[torch.Tensor, Mapping[str, float]]:
    raise KeyError("lost")


def test_what_fails_in_the_other_process_is_raised_here(model: Transformer, losses: Sequence[Loss]) -> None:
    with Replicas(model, 2) as replicas:
        with pytest.raises(ValueError, match=r"^no such batch\n") as told:
            replicas.accumulate([losses[0], broken])
        assert "in the process that trains beside this one" in told.value.__notes__[0]
        with pytest.raises(RuntimeError, match=r"in the process that trains beside this one(.|\n)*KeyError: 'lost'"):
            replicas.accumulate([losses[0], bewildered])


def test_after_a_failure_the_next_step_is_whole_again(model: Transformer, losses: Sequence[Loss]) -> None:
    model.train()
    expected, _ = Replicas(model, 1).accumulate(losses)
    with Replicas(model, 2) as replicas:
        for failing in ([broken, losses[0]], [losses[0], broken]):  # here, and in the other process
            with pytest.raises(ValueError, match="no such batch"):
                replicas.accumulate(failing)
            assert replicas.accumulate(losses)[0] == pytest.approx(expected, rel=1e-6)


def dying(_: Transformer) -> tuple[torch.Tensor, Mapping[str, float]]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_process_is_an_error_and_no_wait(model: Transformer, losses: Sequence[Loss]) -> None:
    with Replicas(model, 2) as replicas, pytest.raises(RuntimeError, match="exit code -9"):
        replicas.accumulate([losses[0], dying])


PARENT = """
import os, sys, time
from openk2.model.transformer import Transformer
from openk2.train.twin import Twin
from tests.train.test_replicas import go_on
from tests.train.episodes import make_agent, make_chat

if __name__ == "__main__":
    Twin(make_agent(make_chat())[0]).ask(go_on, 1)
    time.sleep(60)
"""


def go_on(_: Transformer) -> None:
    print(os.getpid(), flush=True)
    time.sleep(60)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_process_in_the_middle_of_its_work_ends_with_its_killed_parent() -> None:
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=env, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    twin = int(parent.stdout.readline())
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + 10
    while is_alive(twin) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.stdout.close()
    assert not is_alive(twin)


def sums_and_process(model: Transformer, items: Sequence[int]) -> list[tuple[int, float, int]]:
    """What each item became, under the weights of the moment, and where."""
    total = float(sum(parameter.detach().sum() for parameter in model.parameters()))
    return [(item * item, total, os.getpid()) for item in items]


def refuse(_: Transformer, items: Sequence[int]) -> list[int]:
    if 3 in items:
        raise ValueError("three is too many")
    return list(items)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_work_is_shared_out_and_comes_back_in_order(model: Transformer, count: int) -> None:
    with Replicas(model, 3) as replicas:
        for _ in range(2):
            results = replicas.share_out(sums_and_process, range(count))
            assert [square for square, _, _ in results] == [item * item for item in range(count)]
            assert len({process for _, _, process in results}) == min(count, 3)
            assert len({total for _, total, _ in results}) <= 1
            with torch.no_grad():
                next(iter(model.parameters())).add_(1.0)  # the others see it the next time


def test_work_that_fails_elsewhere_is_raised_here(model: Transformer) -> None:
    with Replicas(model, 2) as replicas:
        with pytest.raises(ValueError, match="three is too many"):
            replicas.share_out(refuse, range(4))
        assert replicas.share_out(refuse, range(3)) == [0, 1, 2]


def one_too_few(_: Transformer, items: Sequence[int]) -> list[int]:
    return list(items[1:])


def bytes_of_gradients(model: Transformer, items: Sequence[int]) -> list[int]:
    held = sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None)
    return [held for _ in items]


def test_results_are_as_many_as_items(model: Transformer) -> None:
    with Replicas(model, 1) as replicas, pytest.raises(ValueError, match="4 items returned 3"):
        replicas.share_out(one_too_few, range(4))


def test_weights_of_another_type_are_refused(model: Transformer) -> None:
    with Replicas(model, 2) as replicas:
        replicas.share_out(sums_and_process, range(2))
        model.double()
        with pytest.raises(ValueError, match=r"became torch\.float64"):
            replicas.share_out(sums_and_process, range(2))


def test_no_process_holds_gradients_while_it_sleeps(model: Transformer, losses: Sequence[Loss]) -> None:
    with Replicas(model, 2) as replicas:
        replicas.accumulate(losses)
        replicas.sleep()
        assert replicas.share_out(bytes_of_gradients, range(2)) == [0, 0]


def test_sleep_gives_memory_back_and_changes_nothing(model: Transformer, losses: Sequence[Loss]) -> None:
    def shared_bytes() -> int:
        """Memory behind what both processes map; pages nobody touched do not count."""
        total, ours = 0, False
        with open("/proc/self/smaps") as maps:
            for line in maps:
                if "-" in line.split()[0]:
                    ours = "memfd:openk2" in line
                elif ours and line.startswith("Rss:"):
                    total += int(line.split()[1]) * 1024
        return total

    with Replicas(model, 2) as replicas:
        expected, _ = replicas.accumulate(losses)
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        awake = shared_bytes()
        replicas.sleep()
        assert all(parameter.grad is None for parameter in model.parameters())
        assert shared_bytes() < 0.7 * awake  # the weights stay, their gradients go
        loss, _ = replicas.accumulate(losses)
        assert loss == expected
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            assert torch.equal(parameter.grad, gradient)
