from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from openk2.view.picture import write_picture


def test_a_whole_run_as_one_picture(whole_run: Path, tmp_path: Path) -> None:
    path = write_picture(whole_run, tmp_path / "run.png")
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] > 3 * pixels.shape[0]
    assert len(np.unique(pixels[::3, ::3, 0])) > 20
    assert path.stat().st_size < 200_000
    assert list(tmp_path.iterdir()) == [path]


def test_a_young_run_has_a_narrower_one(new_run: Callable[..., Path], whole_run: Path, tmp_path: Path) -> None:
    young = write_picture(new_run(tmp_path / "young", stages=("pretrain",)), tmp_path / "young.png")
    whole = write_picture(whole_run, tmp_path / "whole.png")
    assert matplotlib.image.imread(young).shape[1] < matplotlib.image.imread(whole).shape[1]


def test_nothing_to_draw_is_said(new_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results and no metrics"):
        write_picture(new_run(tmp_path / "newborn", stages=()), tmp_path / "x.png")
