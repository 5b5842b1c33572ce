"""A picture of tools: near each other where their words are alike, coloured by category (K2 §3.1, t-SNE of tools).

N tools, F features of their words, 2 the plane.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from openk2.jobs.atomic import write_bytes
from openk2.schema import JSON, ToolSpec
from openk2.view.picture import DPI, INK, TITLE
from openk2.worlds.evolve.coverage import words_of

Floats = NDArray[np.float64]
NUM_FEATURES = 150
COMMON = 0.05  # words in more of the tools than this share tell how tools are described, not what they are for
LEAST = 50  # tools
NUM_NEIGHBOURS = 10
NUM_DRAWN = 5000  # evolved tools; t-SNE's time grows with them


@dataclass(frozen=True, slots=True)
class Labelled:
    """A tool, its category, and whether it is a real one (from an MCP server) or evolved."""

    spec: ToolSpec
    category: str
    is_real: bool = False


def draw_map(tools: Sequence[Labelled], path: Path, *, num_drawn: int = NUM_DRAWN, seed: int = 0) -> JSON:
    """Write a PNG of the tools to ``path``: a sample of ``num_drawn`` evolved ones, and every real one on top.

    Returns how many were drawn, and the neighbour purity of the evolved ones in features and in the plane beside what
    chance gives. Raises ValueError for fewer than ``LEAST`` tools.
    """
    evolved = [tool for tool in tools if not tool.is_real]
    chosen = [*Random(seed).sample(evolved, min(num_drawn, len(evolved))), *(tool for tool in tools if tool.is_real)]
    if len(chosen) < LEAST:
        raise ValueError(f"a map needs {LEAST} tools at least, there are {len(chosen)}")
    features_NF = features([tool.spec for tool in chosen], seed)
    plane_N2 = TSNE(init="pca", perplexity=min(30, len(chosen) / 4), random_state=seed).fit_transform(features_NF)
    write_bytes(path, _picture(chosen, plane_N2))
    categories = [tool.category for tool in chosen if not tool.is_real]
    num_evolved = len(categories)
    return {
        "num_evolved": num_evolved,
        "num_real": len(chosen) - num_evolved,
        "purity_in_features": purity(features_NF[:num_evolved], categories),
        "purity_in_plane": purity(plane_N2[:num_evolved], categories),
        "purity_by_chance": sum((n / num_evolved) ** 2 for n in Counter(categories).values()),
    }


def features(specs: Iterable[ToolSpec], seed: int = 0) -> Floats:
    """The tools' words, weighed by rarity and brought down to ``NUM_FEATURES`` dimensions: [N, F]."""
    texts = [" ".join(words_of(spec)) for spec in specs]
    weighed = TfidfVectorizer(min_df=2, max_df=COMMON, sublinear_tf=True).fit_transform(texts)
    svd = TruncatedSVD(min(NUM_FEATURES, min(weighed.shape) - 1), random_state=seed)
    return np.asarray(svd.fit_transform(weighed), dtype=np.float64)


def purity(points_ND: Floats, categories: Sequence[str]) -> float:
    """The share of the ``NUM_NEIGHBOURS`` nearest points that are of the point's own category."""
    labels = np.array(categories)
    near_NK = (
        NearestNeighbors(n_neighbors=NUM_NEIGHBOURS + 1).fit(points_ND).kneighbors(points_ND, return_distance=False)
    )
    is_same_NK = labels[near_NK[:, 1:]] == labels[:, None]
    return float(is_same_NK.mean())


def _picture(tools: Sequence[Labelled], plane_N2: Floats) -> bytes:
    figure = Figure(figsize=(9, 8), dpi=DPI, facecolor="white", layout=ConstrainedLayoutEngine())
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_axis_off()
    num_real = sum(tool.is_real for tool in tools)
    real = f" and {num_real:,} real ones (dark rings)" if num_real else ""
    axis.set_title(f"{len(tools) - num_real:,} evolved tools{real} by their words (t-SNE)", **TITLE)
    labels = np.array([tool.category for tool in tools])
    is_real = np.array([tool.is_real for tool in tools])
    categories = sorted(set(labels))
    for category, colour in zip(categories, cycle(_colours()), strict=False):
        ours, theirs = plane_N2[(labels == category) & ~is_real], plane_N2[(labels == category) & is_real]
        axis.scatter(ours[:, 0], ours[:, 1], s=4, color=colour, linewidths=0, label=category)
        axis.scatter(theirs[:, 0], theirs[:, 1], s=16, color=colour, edgecolors=INK, linewidths=0.7)
    size = min(8.0, 300 / len(categories))  # as large as lets all of them in
    figure.legend(loc="outside right center", frameon=False, fontsize=size, labelcolor=INK, markerscale=size / 2)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _colours() -> list[Any]:
    """Colours for as many categories as come, the most distinct first."""
    maps = {"tab20": 20, "Dark2": 8, "Set2": 8, "tab20b": 20, "tab20c": 20}
    return [colour for name, num in maps.items() for colour in matplotlib.colormaps[name](range(num))]
