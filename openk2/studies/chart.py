"""What the pictures of all studies have in common: colours, a sheet of panels, a PNG."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from openk2.view.picture import calm

GREEN, RED, BLUE, OCHRE = "#2f8464", "#b0413e", "#3a6ea5", "#b98430"


def sheet(num_rows: int, num_columns: int) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of calm panels."""
    figure = Figure(
        figsize=(11, 3.4 * num_rows),
        dpi=150,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1),
    )
    FigureCanvasAgg(figure)
    rows = figure.subplots(num_rows, num_columns, squeeze=False).tolist()
    for axis in (axis for row in rows for axis in row):
        calm(axis)
    return figure, rows


def as_png(figure: Figure) -> bytes:
    """The picture as a file's bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
