import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from openk2.optim.muonclip import MuonClip
from openk2.optim.plan import plan


class Foreign(nn.Module):
    def __init__(self, tied: bool):
        super().__init__()
        self.output = nn.Linear(8, 32, bias=False)
        self.embed = nn.Embedding(32, 8)
        self.up = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 32, bias=False)
        if tied:
            self.output.weight = self.embed.weight


def algorithms(model):
    return {row.name: row.algorithm for row in plan(model, "piece")}


def test_a_foreign_model_is_sorted_by_where_parameters_stand():
    assert algorithms(Foreign(tied=False)) == {
        "output.weight": "muon",
        "embed.weight": "adamw",
        "up.weight": "muon",
        "up.bias": "adamw",
        "norm.weight": "adamw",
        "norm.bias": "adamw",
        "lm_head.weight": "adamw",
    }
    assert algorithms(Foreign(tied=True))["output.weight"] == "adamw"


def test_roles_decide_where_they_are_published():
    model = nn.ParameterDict(
        {role: nn.Parameter(torch.ones(6, 4)) for role in ("matrix", "router", "head", "embedding")}
    )
    model["experts"] = nn.Parameter(torch.ones(3, 6, 4))
    model["norm"] = nn.Parameter(torch.ones(4))
    model["bias"] = nn.Parameter(torch.ones(4))
    model["still"] = nn.Parameter(torch.ones(4, 4), requires_grad=False)
    for role, parameter in model.items():
        parameter.published = SimpleNamespace(role=role, heads=1, pieces=(("gate", 3), ("up", 3)))
    rows = {row.name: row for row in plan(model, "piece")}
    assert {name for name, row in rows.items() if row.algorithm == "muon"} == {"matrix", "experts"}
    assert rows["still"].algorithm == "frozen"
    assert [block.name for block in rows["experts"].pieces] == ["gate", "up"]
    assert rows["router"].why == "role router"
    assert len(rows) == len(model)


def test_what_fits_no_rule_is_an_error():
    model = nn.MultiheadAttention(8, 2)
    with pytest.raises(ValueError, match=r"in_proj_weight \[24, 8\] of MultiheadAttention fits no rule"):
        plan(model, "piece")
    model.in_proj_weight.published = SimpleNamespace(role="matrx", heads=1, pieces=())
    with pytest.raises(ValueError, match="in_proj_weight: unknown role 'matrx'"):
        plan(model, "piece")
    model.in_proj_weight.published = SimpleNamespace(role="matrix", heads=1, pieces=(("q", 8), ("k", 8)))
    with pytest.raises(ValueError, match=r"in_proj_weight: .* the weight has 24 rows"):
        plan(model, "piece")
    model.in_proj_weight.published = SimpleNamespace(role="matrix", heads=1, pieces=(("q", 8), ("k", 8), ("v", 8)))
    assert {row.algorithm for row in plan(model, "piece")} == {"muon", "adamw"}


def test_roles_by_name_come_first_and_must_fit_something():
    model = nn.MultiheadAttention(8, 2)
    qkv = SimpleNamespace(role="matrix", heads=1, pieces=(("q", 8), ("k", 8), ("v", 8)))
    rows = {row.name: row for row in plan(model, "piece", {"in_proj_weight": qkv, "out_proj.weight": "router"})}
    assert [block.name for block in rows["in_proj_weight"].pieces] == ["q", "k", "v"]
    assert rows["out_proj.weight"].algorithm == "adamw"
    with pytest.raises(ValueError, match=r"roles: no parameter is called experts\.\*"):
        plan(model, "piece", {"in_proj_weight": qkv, "experts.*": "experts"})


def test_a_plan_prints_as_a_table():
    model = nn.ParameterDict({"experts": nn.Parameter(torch.ones(3, 6, 4)), "norm": nn.Parameter(torch.ones(4))})
    model["experts"].published = SimpleNamespace(role="experts", heads=1, pieces=(("gate", 3), ("up", 3)))
    first, second = str(plan(model, "piece")).splitlines()
    assert re.split(" {2,}", first) == ["experts", "3×6×4", "muon", "gate 3·3×4, up 3·3×4", "role experts"]
    assert second.split() == ["norm", "4", "adamw", "fewer", "than", "two", "dimensions"]


def test_a_convolution_is_no_stack_of_small_matrices():
    convolution = nn.Conv2d(8, 16, 3)
    said = r"role matrix wants \[out, in\] or \[stack, out, in\], its shape is \[16, 8, 3, 3\]; give a convolution to AdamW"
    with pytest.raises(ValueError, match=said):
        MuonClip([convolution.weight], tau=None)
    with pytest.raises(ValueError, match=said):
        plan(convolution, "piece", {"weight": "matrix"})
    experts = {row.name: row.matrices for row in plan(convolution, "piece", {"weight": "experts"})}
    assert experts["weight"] == "128·3×3"
