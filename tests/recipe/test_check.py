"""Whoever misspells or mistypes is told the file, the key and what would be right, in one line."""

import re

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from openk2.recipe import check


class Strict(BaseModel):
    """Closed, as every room's configuration is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(Strict):
    num_steps: int = Field(10, ge=1)
    peak_lr: float = 0.1
    layers: tuple[int, ...] = (1, 2)


class Net(Strict):
    heads: int = 4
    width: int = 64
    q_rank: int | None = 32

    @model_validator(mode="after")
    def _fits(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Toy(Strict):
    name: str
    net: Net = Net()
    pretrain: Stage = Stage()
    extras: list[Stage] = []
    nets: tuple[Net, ...] = ()


ORIGIN = {("pretrain",): "low.toml", ("pretrain", "num_step"): "high.toml"}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"pretrain": {"num_step": 1}}, "high.toml: pretrain.num_step: unknown key; did you mean pretrain.num_steps?"),
        ({"peak_lr": 1.0}, "toy.toml: peak_lr: unknown key; did you mean pretrain.peak_lr?"),
        ({"net": {"zzz": 1}}, "toy.toml: net.zzz: unknown key; known here: heads, width, q_rank"),
        ({"extras": [{"num_stepz": 1}]}, "toy.toml: extras.0.num_stepz: unknown key; did you mean extras.0.num_steps?"),
        ({"pretrain": {"num_steps": "5"}}, 'low.toml: pretrain.num_steps = "5": should be a valid integer'),
        ({"pretrain": {"num_steps": 1.5}}, "low.toml: pretrain.num_steps = 1.5: should be a valid integer"),
        ({"pretrain": {"num_steps": True}}, "low.toml: pretrain.num_steps = true: should be a valid integer"),
        ({"pretrain": {"num_steps": 0}}, "low.toml: pretrain.num_steps = 0: should be greater than or equal to 1"),
        ({"pretrain": 3}, "low.toml: pretrain = 3: should be an object"),
        ({"net": {"heads": 5}}, "toy.toml: net: width 64 is not a multiple of heads 5"),
        ({"net": {"headz": 5, "width": "x"}}, "toy.toml: net.headz: unknown key; did you mean net.heads? (and 1 more)"),
    ],
)
def test_one_clear_line(data, line):
    with pytest.raises(ValueError, match=re.escape(line)) as caught:
        check(Toy, {"name": "toy", **data}, ORIGIN, "toy.toml")
    assert "\n" not in str(caught.value)


def test_missing_key():
    with pytest.raises(ValueError, match=r"^toy.toml: name: missing$"):
        check(Toy, {}, {}, "toy.toml")


def test_good_data_passes_with_tuples_nulls_and_whole_numbers_for_floats():
    toy = check(
        Toy,
        {
            "name": "none",
            "net": {"q_rank": "none"},
            "pretrain": {"layers": [3], "peak_lr": 1},
            "nets": [{"q_rank": "none"}],
        },
        {},
        "toy.toml",
    )
    assert toy == Toy(
        name="none", net=Net(q_rank=None), pretrain=Stage(layers=(3,), peak_lr=1.0), nets=(Net(q_rank=None),)
    )
