"""MuonClip under every parallel layout ends, after 20 steps, where one process ends.

Gloo on CPU, fixed data, float32 Newton-Schulz, lr 2e-3. Every case runs in fresh processes that meet in a file.
"""

import multiprocessing
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip, NonFiniteGradientError
from openk2.optim.owners import assign
from openk2.optim.plan import published_layouts
from openk2.optim.zero1 import Zero1MuonClip

from .test_muonclip import Small, give_gradients

STEPS = 20
TIMEOUT = timedelta(seconds=40)
CONFIG = OptimConfig(lr=2e-3, adamw_lr=1e-3, adamw_eps=1e-5, tau=0.5)


class Model(Small):
    """``Small`` with a loss in which every parameter has a part."""

    def forward(self, ids_BT):
        x = self.embed(ids_BT) * self.norm
        mixed = torch.softmax(self.attention(x), -1).mean(1) @ x
        gate, up = torch.einsum("btd,eod->bteo", mixed, self.gate_up).chunk(2, -1)
        experts = torch.einsum("bteo,edo->bted", torch.nn.functional.silu(gate) * up, self.down)
        out = (torch.softmax(x @ self.router.T, -1)[..., None] * experts).sum(2)
        return (out - 1).square().mean() / 100 + (out[..., :12] @ self.kv_b.T).square().mean() / 100


LAYOUTS = published_layouts(Model())


def data(step):
    return torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(step))


def train(model, optimizer, steps=STEPS, share=slice(None)):
    clipped = 0
    for step in range(steps):
        optimizer.zero_grad()
        model(data(step)[share]).backward()
        optimizer.step()
        clipped += optimizer.last_clip.clipped_heads
    return clipped


def alone(steps=STEPS, config=CONFIG):
    model = Model()
    optimizer = MuonClip.for_model(model, config)
    assert train(model, optimizer, steps) > 0
    return model, optimizer


def share_of(rank, world):
    return slice(rank * 4 // world, (rank + 1) * 4 // world)


def whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def assert_ends_as(model, twin, tolerance=1e-5):
    start = Model()
    for name, wanted in twin.named_parameters():
        got = whole(model.get_parameter(name).detach())
        assert (got - wanted).abs().max() <= tolerance, (name, (got - wanted).abs().max())
        assert (wanted - start.get_parameter(name)).abs().max() > 100 * tolerance, name


def _enter(rank, case, world, folder, arguments):
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    try:
        case(rank, world, folder, *arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def in_processes(case, world, folder, *arguments):
    """Run ``case(rank, world, folder, *arguments)`` on every rank; an error of one is raised here."""
    (folder / "store").unlink(missing_ok=True)
    # The server has imported torch: its children start at once.
    multiprocessing.set_forkserver_preload([__name__])
    context = mp.start_processes(
        _enter, (case, world, folder, arguments), nprocs=world, join=False, start_method="forkserver"
    )
    end = time.monotonic() + 2 * TIMEOUT.seconds
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < end, f"{case.__name__} does not end"
    finally:
        for process in context.processes:
            process.kill()


worlds = pytest.mark.parametrize("world", [2, 4])


def ddp(rank, world, folder):
    torch.manual_seed(rank)
    model = DistributedDataParallel(Model())
    optimizer = MuonClip.for_model(model, CONFIG)
    twin, _ = alone()
    model.module.attention.max_logits_H.fill_(-torch.inf)
    model(data(0)[share_of(rank, world)])
    tops = [torch.empty(4) for _ in range(world)]
    dist.all_gather(tops, model.module.attention.max_logits_H)
    assert not torch.equal(tops[0], tops[1])  # else the clip's all-reduce would not matter
    model.module.attention.max_logits_H.fill_(-torch.inf)
    train(model, optimizer, share=share_of(rank, world))
    assert_ends_as(model.module, twin)


@worlds
def test_ddp(world, tmp_path):
    in_processes(ddp, world, tmp_path)


def stages(rank, world, folder):
    """Two stages of unlike modules, each on two ranks: a mixed all-reduce has sizes that do not fit."""
    groups = [dist.new_group([0, 1], timeout=TIMEOUT), dist.new_group([2, 3], timeout=TIMEOUT)]
    stage = rank // 2
    model = [Model, _Tall][stage]()
    twin = [Model, _Tall][stage]()
    optimizer = MuonClip.for_model(model, CONFIG, group=groups[stage])
    alone = MuonClip.for_model(twin, CONFIG, group=dist.new_group([rank], use_local_synchronization=True))
    for step in range(STEPS):
        for module, opt in ((model, optimizer), (twin, alone)):
            give_gradients(module, step)
            for number, part in enumerate(m for m in module.modules() if hasattr(m, "max_logits_H")):
                mine = 1.0 if module is model and rank % 2 else 5.0 + stage + number
                part.max_logits_H.fill_(mine)
            opt.step()
        assert optimizer.last_clip.max_logit == alone.last_clip.max_logit == [5.0, 7.0][stage]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, twin.get_parameter(name))


class _Tall(Model):
    def __init__(self):
        super().__init__()
        self.more = Small().attention


def test_pipeline_stages_clip_apart(tmp_path):
    in_processes(stages, 4, tmp_path)


def experts(rank, world, folder, as_dtensor):
    """Every rank has some of the experts, which have their gradients already; the rest is replicated."""
    mesh = init_device_mesh("cpu", (world,))
    model, twin = Model(), Model()
    part = slice(rank * 4 // world, (rank + 1) * 4 // world)
    stacks = ("gate_up", "down")
    for name in stacks:
        whole = getattr(model, name)
        mine = nn.Parameter(distribute_tensor(whole.detach(), mesh, [Shard(0)]) if as_dtensor else whole[part].detach().clone())
        mine.published = whole.published
        setattr(model, name, mine)
    optimizers = MuonClip.for_model(model, CONFIG), MuonClip.for_model(twin, CONFIG)
    for step in range(STEPS):
        give_gradients(twin, step)
        for name, parameter in twin.named_parameters():
            grad = parameter.grad.clone()
            if name in stacks:
                grad = distribute_tensor(grad, mesh, [Shard(0)]) if as_dtensor else grad[part].clone()
            model.get_parameter(name).grad = grad
        for module, optimizer in zip((model, twin), optimizers, strict=True):
            module.attention.max_logits_H.fill_(5.0)
            optimizer.step()
    for name, wanted in twin.named_parameters():
        got = model.get_parameter(name)
        got = got.to_local() if isinstance(got, DTensor) else got
        wanted = wanted[part] if name in stacks else wanted
        assert (got - wanted).abs().max() <= 1e-5, name


@worlds
@pytest.mark.parametrize("as_dtensor", [False, True])
def test_expert_parallel_stacks(world, as_dtensor, tmp_path):
    in_processes(experts, world, tmp_path, as_dtensor)


def zero1(rank, world, folder):
    model = DistributedDataParallel(Model())
    optimizer = Zero1MuonClip.for_model(model, CONFIG)
    train(model, optimizer, share=share_of(rank, world))
    twin, plain = alone()
    assert_ends_as(model.module, twin)
    muon = [parameter for parameter in model.parameters() if "exp_avg" not in optimizer.state[parameter]]
    own = sum(x.numel() for p in muon for x in optimizer.state[p].values())
    total = torch.tensor(own)
    dist.all_reduce(total)
    all_of_it = sum(p.numel() for p in muon)
    assert total == all_of_it
    assert own < 1.5 * all_of_it / world
    for parameter in model.parameters():
        copies = [torch.empty_like(parameter) for _ in range(world)]
        dist.all_gather(copies, parameter.detach())
        assert all(torch.equal(copy, parameter) for copy in copies)


@worlds
def test_zero1(world, tmp_path):
    in_processes(zero1, world, tmp_path)


def fsdp(rank, world, folder):
    model = fully_sharded()
    if world == 4:  # 30 rows in chunks of 8; 4 heads of 10 rows in chunks of 10
        assert len(model.kv_b.to_local()) == (6 if rank == 3 else 8)
    optimizer = MuonClip.for_model(model, CONFIG, roles=LAYOUTS)
    train(model, optimizer, share=share_of(rank, world))
    assert isinstance(optimizer.state[model.kv_b]["momentum"], DTensor)
    assert_ends_as(model, alone()[0])


def fully_sharded():
    model = Model()
    fully_shard(model.attention)
    return fully_shard(model)


@worlds
def test_fsdp2(world, tmp_path):
    in_processes(fsdp, world, tmp_path)


def build(kind):
    """A model and its optimizer, as a layout makes them."""
    if kind == "fsdp2":
        model = fully_sharded()
        return model, MuonClip.for_model(model, CONFIG, roles=LAYOUTS)
    model = Model()
    return model, (Zero1MuonClip if kind == "zero1" else MuonClip).for_model(model, CONFIG)


def state_by_name(model, optimizer, folder, number):
    """All tensors of the state, whole, from all ranks."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    mine = {(names[p], kind): whole(x) for p, kinds in optimizer.state.items() for kind, x in kinds.items()}
    torch.save(mine, folder / f"state-{number}.pt")


def save(rank, world, folder, kind):
    model, optimizer = build(kind)
    train(model, optimizer, 3)
    dcp.save({"optim": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder / "checkpoint")
    state_by_name(model, optimizer, folder, rank)


def load(rank, world, folder, kind):
    model, optimizer = build(kind)
    start = {name: whole(parameter.detach()).clone() for name, parameter in model.named_parameters()}
    wanted = {}
    for path in folder.glob("state-*.pt"):
        wanted |= torch.load(path)
    state = {"optim": get_optimizer_state_dict(model, optimizer)}
    dcp.load(state, checkpoint_id=folder / "checkpoint")  # of what the checkpoint lacks, it complains
    options = StateDictOptions(strict=kind != "zero1")  # a rank has no state of what others own
    set_optimizer_state_dict(model, optimizer, state["optim"], options=options)
    seen = 0
    for name, parameter in model.named_parameters():
        assert torch.equal(whole(parameter.detach()), start[name]), name
        for kind_, got in optimizer.state[parameter].items():
            assert torch.equal(whole(got), wanted[name, kind_]), (name, kind_)
            assert wanted[name, kind_].any()
            seen += 1
    count = torch.tensor(seen)
    if kind == "zero1":
        dist.all_reduce(count)
        count -= (world - 1) * 3 * 3  # AdamW's state is on every rank
    assert count == len(wanted)
    train(model, optimizer, 1)


@pytest.mark.parametrize("kind", ["fsdp2", "zero1"])
def test_state_saved_by_four_loads_on_two_and_on_one(kind, tmp_path):
    for world, case in ((4, save), (2, load), (1, load)):
        in_processes(case, world, tmp_path, kind)


def test_state_of_fsdp2_loads_without_ranks(tmp_path):
    in_processes(save, 2, tmp_path, "fsdp2")
    model, optimizer = build("plain")
    state = {"optim": get_optimizer_state_dict(model, optimizer)}
    dcp.load(state, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    set_optimizer_state_dict(model, optimizer, state["optim"])
    wanted = torch.load(tmp_path / "state-0.pt")
    assert torch.equal(optimizer.state[model.kv_b]["momentum"], wanted["kv_b", "momentum"])
    assert wanted["kv_b", "momentum"].any()
