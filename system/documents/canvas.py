"""Empty figures to draw on, and PNG files of them; no screen and no global state of the drawing library."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 110


def new_figure(width: float = 6.0, height: float = 4.0) -> Figure:
    """An empty figure; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(
    x: str, y: str, *, title: str = "", width: float = 6.0, height: float = 4.0
) -> tuple[Figure, Axes]:
    """A figure with one pair of labelled axes."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    """Writes the PNG; makes its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
