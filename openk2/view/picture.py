"""One picture of a run for a README: the results with their intervals, the losses and the reward."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from openk2.jobs.atomic import write_bytes
from openk2.schema import JSON
from openk2.view.run import EVALUATED, SETS, TRAINING, Run, read_run

COLOURS = {"base": "#9a9da3", "sft": "#3a6ea5", "sft_control": "#b98430", "rl": "#2f8464", "pretrain": "#6a5a9c"}
INK, QUIET, RULE = "#22252a", "#6d727a", "#e6e3dd"
DPI = 150


def write_picture(run_dir: Path, path: Path) -> Path:
    """Write a PNG of what the run has reached so far to ``path``, and return it.

    Raises ValueError when the run has neither results nor metrics.
    """
    run = read_run(run_dir)
    draws = [draw for has, draw in ((run.summary.get("tasks"), _results), (run.metrics, _losses)) if has]
    if any("reward" in step for step in run.metrics.get("rl", [])):
        draws.append(_reward)
    if not draws:
        raise ValueError(f"{run_dir} has no results and no metrics to draw yet")
    ratios = [1.7 if draw is _results else 1.0 for draw in draws]
    figure = Figure(
        figsize=(3.6 * sum(ratios), 3.5),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1),
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(draws), width_ratios=ratios, squeeze=False)[0]
    for axis, draw in zip(axes, draws, strict=True):
        calm(axis)
        draw(axis, run)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_bytes(path, png.getvalue())
    return path


def _results(axis: Any, run: Run) -> None:
    """Bars of pass@1 with their intervals, grouped by set."""
    tasks: JSON = run.summary["tasks"]
    sets = [name for name in SETS if name in tasks]
    stages = [stage for stage in EVALUATED if any(stage in tasks[name] for name in sets)]
    width = 0.8 / len(stages)
    for i, stage in enumerate(stages):
        found = [(x, tasks[name][stage]) for x, name in enumerate(sets) if stage in tasks[name]]
        places = [x + (i - (len(stages) - 1) / 2) * width for x, _ in found]
        heights = [100 * rate["pass_at_1"] for _, rate in found]
        reach = [[h - 100 * rate["ci95"][0] for h, (_, rate) in zip(heights, found, strict=True)]]
        reach += [[100 * rate["ci95"][1] - h for h, (_, rate) in zip(heights, found, strict=True)]]
        bars = axis.bar(places, heights, width * 0.86, color=COLOURS[stage], label=EVALUATED[stage])
        axis.errorbar(places, heights, yerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        tops = [100 * rate["ci95"][1] for _, rate in found]
        for bar, height, top in zip(bars, heights, tops, strict=True):
            centre = bar.get_x() + bar.get_width() / 2
            axis.text(centre, top + 1.5, f"{height:.0f}", ha="center", va="bottom", fontsize=8, color=INK)
    axis.set_xticks(range(len(sets)), [SETS[name][0] for name in sets], color=INK)
    axis.set_ylim(0, 106)
    axis.set_yticks(range(0, 101, 25))
    axis.set_title("Held-out tasks solved, %", **TITLE)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=len(stages), loc="upper right", handlelength=1)


def _losses(axis: Any, run: Run) -> None:
    """The loss of pre-training and fine-tuning over the tokens seen."""
    for stage in ("pretrain", "sft", "sft_control"):
        if steps := [step for step in run.metrics.get(stage, []) if "loss" in step]:
            tokens = [step["tokens"] / 1e6 for step in steps]
            axis.plot(tokens, _smooth([step["loss"] for step in steps]), color=COLOURS[stage], label=TRAINING[stage])
    axis.set_xlabel("million tokens", fontsize=8, color=QUIET)
    axis.set_title("Loss", **TITLE)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1)


def _reward(axis: Any, run: Run) -> None:
    """The mean reward of the rollouts, step by step."""
    steps = [step for step in run.metrics["rl"] if "reward" in step]
    rewards = [step["reward"] for step in steps]
    axis.plot([step["step"] for step in steps], rewards, color=COLOURS["rl"], alpha=0.3, linewidth=0.8)
    axis.plot([step["step"] for step in steps], _smooth(rewards), color=COLOURS["rl"])
    axis.set_xlabel("step", fontsize=8, color=QUIET)
    axis.set_ylim(bottom=0)
    axis.set_title("Reward in reinforcement learning", **TITLE)


TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10, "color": INK, "pad": 10}


def calm(axis: Any) -> None:
    """The look of every chart: no frame, quiet lines across."""
    axis.spines[:].set_visible(False)
    axis.grid(axis="y", color=RULE, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8, labelcolor=QUIET)


def _smooth(values: list[float]) -> list[float]:
    """The mean over a twenty-fifth of the curve around each point."""
    reach = 1 + len(values) // 50
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]
