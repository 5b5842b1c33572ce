"""Flags: typed, dotted, and refused in one line."""

import re
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from openk2.recipe import override


class Stage(BaseModel):
    """A stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_steps: int = Field(10, ge=1, description="How many steps.")
    rank: int | None = 4
    on: bool = True
    mix: dict[str, float] = {"code": 1.0}


class Source(BaseModel):
    """One of several."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    weight: float = Field(1.0, gt=0)


class Toy(BaseModel):
    """A recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    device: Literal["cpu", "cuda"] = "cpu"
    pretrain: Stage = Stage()
    sources: tuple[Source, ...] = (Source(kind="python"), Source(kind="files"))


TOY = Toy(name="toy", pretrain=Stage(num_steps=77))


def test_flags_change_what_they_name_and_nothing_else():
    flags = ["--pretrain.rank", "None", "--pretrain.on", "False", "--pretrain.mix.code", "0.5", "--device=cuda"]
    changed = Stage(num_steps=77, rank=None, on=False, mix={"code": 0.5})
    assert override(TOY, flags, prog="p") == Toy(name="toy", device="cuda", pretrain=changed)
    assert override(TOY, [], prog="p") is TOY


def test_a_flag_reaches_into_a_list_of_tables():
    changed = override(TOY, ["--sources.1.weight", "2.5"], prog="p")
    assert changed.sources == (Source(kind="python"), Source(kind="files", weight=2.5))


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--pretrain.num_step 3", "--pretrain.num_step: unknown flag; did you mean --pretrain.num_steps?"),
        ("--num-steps 3", "--num-steps: unknown flag; did you mean --pretrain.num_steps?"),
        ("--pretrain.num_steps x", "--pretrain.num_steps: invalid literal for int() with base 10: 'x'"),
        ("--pretrain.num_steps 0", "num_steps = 0: should be greater than or equal to 1"),
        ("--pretrain.num_steps", "Missing value for argument '--pretrain.num_steps'"),
        ("--device tpu", "--device"),
        ("stray", "stray"),
        ("--pretrain.mix.code 2 --sources.0.weight 0", "--sources.0.weight: weight = 0.0: should be greater than 0"),
        ("--sources.0.wight 2", "--sources.0.wight: unknown flag; did you mean --sources.0.weight?"),
    ],
)
def test_bad_flags_get_one_line(flags, line):
    with pytest.raises(ValueError, match=re.escape(line)) as caught:
        override(TOY, flags.split(), prog="p")
    assert "\n" not in str(caught.value)


def test_help_shows_this_recipes_values(capsys):
    with pytest.raises(SystemExit) as stop:
        override(TOY, ["--help"], prog="openk2 run toy.toml")
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--pretrain.num_steps" in out
    assert "How many steps. (default: 77)" in out
