"""MuonClip under every parallel layout ends, after 20 steps, where one process ends.

Gloo on CPU, fixed data, float32 Newton-Schulz, lr 2e-3. Every case runs in fresh processes that meet in a file.
"""

import copy
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
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import openk2.optim.zero1
from openk2.optim.config import OptimConfig
from openk2.optim.muonclip import MuonClip, NonFiniteGradientError
from openk2.optim.owners import assign, cost
from openk2.optim.plan import published_layouts
from openk2.optim.qk_clip import clip_
from openk2.optim.zero1 import Zero1MuonClip

from .attention import make
from .test_muonclip import Small, give_gradients, published

STEPS = 20
TIMEOUT = timedelta(seconds=40)
CONFIG = OptimConfig(lr=2e-3, adamw_lr=1e-3, adamw_eps=1e-5, tau=0.5)


class Model(Small):
    """``Small``, what four ranks cannot share (5 rows, 2 experts, 3 numbers), and a loss that takes part of each."""

    def __init__(self):
        super().__init__()
        self.thin = published(nn.Parameter(torch.randn(5, 16)), "matrix")
        self.pair = published(nn.Parameter(torch.randn(2, 8, 16)), "experts")
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, ids_BT):
        x = self.embed(ids_BT) * self.norm
        mixed = torch.softmax(self.attention(x), -1).mean(1) @ x
        gate, up = torch.einsum("btd,eod->bteo", mixed, self.gate_up).chunk(2, -1)
        experts = torch.einsum("bteo,edo->bted", torch.nn.functional.silu(gate) * up, self.down)
        out = (torch.softmax(x @ self.router.T, -1)[..., None] * experts).sum(2)
        rest = (x @ self.thin.T)[..., :3] * self.gain + torch.einsum("btd,eod->bto", x, self.pair)[..., :3]
        return (
            rest.square().mean() / 100
            + (out - 1).square().mean() / 100
            + (out[..., :12] @ self.kv_b.T).square().mean() / 100
        )


LAYOUTS = published_layouts(Model())


def data(step):
    return torch.randint(0, 20, (12, 6), generator=torch.Generator().manual_seed(step))


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
    return slice(rank * 12 // world, (rank + 1) * 12 // world)


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


worlds = pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
OTHER = CONFIG.model_copy(update={"nesterov": False, "cautious": True, "split": "head", "newton_schulz": "you"})
configs = pytest.mark.parametrize("config", [CONFIG, OTHER], ids=["paper", "other"])


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


def experts(rank, world, folder):
    for as_dtensor in (False, True):
        some_experts(rank, world, as_dtensor)


def some_experts(rank, world, as_dtensor):
    """Every rank has some of the experts, which have their gradients already; the rest is replicated."""
    mesh = init_device_mesh("cpu", (world,))
    model, twin = Model(), Model()
    part = slice(rank * 4 // world, (rank + 1) * 4 // world)
    stacks = ("gate_up", "down")
    for name in stacks:
        whole = getattr(model, name)
        mine = nn.Parameter(
            distribute_tensor(whole.detach(), mesh, [Shard(0)]) if as_dtensor else whole[part].detach().clone()
        )
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
        assert not torch.equal(wanted, Model().get_parameter(name)[part if name in stacks else ...])


@worlds
def test_expert_parallel_stacks(world, tmp_path):
    in_processes(experts, world, tmp_path)


def zero1(rank, world, folder, config):
    model = DistributedDataParallel(Model())
    optimizer = Zero1MuonClip.for_model(model, config)
    train(model, optimizer, share=share_of(rank, world))
    twin, _ = alone(config=config)
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


@configs
@worlds
def test_zero1(world, config, tmp_path):
    in_processes(zero1, world, tmp_path, config)


def many_buckets(rank, world, folder):
    openk2.optim.zero1.BUCKET_ELEMENTS = 400
    zero1(rank, world, folder, CONFIG)


def test_zero1_in_many_buckets(tmp_path):
    in_processes(many_buckets, 2, tmp_path)


def fully_sharded(mesh=None):
    model = Model()
    fully_shard(model.attention, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fsdp(rank, world, folder, config):
    model = fully_sharded()
    if world == 4:
        assert len(model.kv_b.to_local()) == (6 if rank == 3 else 8)
        assert [len(x.to_local()) for x in (model.thin, model.pair, model.gain)][:: 1 if rank == 3 else 4] in (
            [0] * 3,
            [2],
            [1],
        )
    optimizer = MuonClip.for_model(model, config, roles=LAYOUTS)
    train(model, optimizer, share=share_of(rank, world))
    assert isinstance(optimizer.state[model.kv_b]["momentum"], DTensor)
    assert_ends_as(model, alone(config=config)[0])


@configs
@pytest.mark.parametrize("world", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_fsdp2(world, config, tmp_path):
    in_processes(fsdp, world, tmp_path, config)


def hybrid(rank, world, folder):
    model = fully_sharded(init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))
    train(model, MuonClip.for_model(model, CONFIG, roles=LAYOUTS), share=share_of(rank, world))
    assert_ends_as(model, alone()[0])


@pytest.mark.slow
def test_fsdp2_replicated_and_sharded(tmp_path):
    in_processes(hybrid, 4, tmp_path)


def clip_cut_heads(rank, world, folder):
    """24 rows in heads of 6 on three ranks: 8 each, so heads are cut."""
    for kind in ("mla", "mha", "gqa", "mqa"):
        torch.manual_seed(0)
        cut = make(kind)
        whole_one = copy.deepcopy(cut)
        fully_shard(cut)
        for module in (cut, whole_one):
            module.max_logits_H.copy_(torch.tensor([50.0, 200.0, 400.0, 100.0 + rank]))
            assert clip_([module], 100.0).clipped_heads == 3
        for name, wanted in whole_one.named_parameters():
            assert torch.equal(whole(cut.get_parameter(name).detach()), wanted), (kind, name)


def test_clip_scales_heads_cut_over_ranks(tmp_path):
    in_processes(clip_cut_heads, 3, tmp_path)


def not_finite(rank, world, folder):
    """Rank 1 alone sees the NaN, in its rows."""
    for choice in ("skip", "raise"):
        model = fully_sharded()
        optimizer = MuonClip.for_model(model, CONFIG.model_copy(update={"nonfinite": choice}), roles=LAYOUTS)
        model(data(0)).backward()
        if rank == 1:
            model.down.grad.to_local()[0, 0, 0] = torch.nan
        if choice == "skip":
            optimizer.step()
            assert optimizer.skipped_steps == 1
        else:
            with pytest.raises(NonFiniteGradientError, match="of down;" if rank == 1 else "of a parameter of another"):
                optimizer.step()
        assert not optimizer.state


def test_ranks_decide_alike_about_gradients_that_are_not_finite(tmp_path):
    in_processes(not_finite, 2, tmp_path)


def refusals(rank, world, folder):
    mesh = init_device_mesh("cpu", (world,))
    columns = nn.Parameter(distribute_tensor(torch.ones(4, 4), mesh, [Shard(1)]))
    with pytest.raises(ValueError, match=r"parameter 0 is placed .*Shard\(dim=1\).*: MuonClip wants Shard\(0\) once"):
        MuonClip([columns], tau=None)
    rows = nn.Parameter(distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)]))
    with pytest.raises(ValueError, match="parameter 0 is a DTensor, whose work is shared already: use MuonClip"):
        Zero1MuonClip([rows], tau=None)
    model = nn.Linear(4, 4, bias=False)
    optimizer = Zero1MuonClip.for_model(model, tau=None)
    model.weight.grad = torch.ones(4, 4)
    optimizer.step()
    state = optimizer.state_dict()
    assert len(state["state"]) == (1 if rank == 0 else 0)
    states = [None] * world
    dist.all_gather_object(states, state)
    if rank == 1:
        with pytest.raises(
            ValueError, match=r"momentum\.0 of weight is not kept by rank 1 of 2: load a state of another"
        ):
            optimizer.load_state_dict(states[0])
    else:
        optimizer.load_state_dict(states[0])


def test_refusals(tmp_path):
    with pytest.raises(RuntimeError, match=r"call torch\.distributed\.init_process_group first"):
        Zero1MuonClip([torch.ones(2, 2, requires_grad=True)], tau=None)
    in_processes(refusals, 2, tmp_path)


def test_owners_have_equal_work():
    assert assign([5, 3, 3, 2, 2, 1], 2) == [0, 1, 1, 0, 1, 0]
    assert assign([1, 1, 1], 1) == [0, 0, 0]
    costs = [cost(n, m, 5) for n, m in ((512, 512), (512, 64), (64, 512), (256, 1024)) for _ in range(50)]
    owners = assign(costs, 7)
    loads = [sum(c for c, owner in zip(costs, owners, strict=True) if owner == rank) for rank in range(7)]
    assert max(loads) < 1.05 * sum(costs) / 7


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
        count -= (world - 1) * 4 * 3  # AdamW's state is on every rank
    assert count == len(wanted)
    train(model, optimizer, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp2", "zero1"])
def test_state_saved_by_four_loads_on_two_and_on_one(kind, tmp_path):
    for world, case in ((4, save), (2, load), (1, load)):
        in_processes(case, world, tmp_path, kind)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_state_of_fsdp2_loads_without_ranks(tmp_path):
    in_processes(save, 2, tmp_path, "fsdp2")
    model, optimizer = build("plain")
    state = {"optim": get_optimizer_state_dict(model, optimizer)}
    dcp.load(state, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    set_optimizer_state_dict(model, optimizer, state["optim"])
    wanted = torch.load(tmp_path / "state-0.pt")
    assert torch.equal(optimizer.state[model.kv_b]["momentum"], wanted["kv_b", "momentum"])
    assert wanted["kv_b", "momentum"].any()
