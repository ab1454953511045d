"""What all figures share: colours, settings, canvas, and their bytes as SVG, PDF and PNG, the same on every run."""

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito (2008), distinguishable with any colour vision; shape, position and weight repeat the distinction.
BLUE, ORANGE, GREY, BAND = "#0072B2", "#D55E00", "#6b6f76", "#56B4E9"
CYCLE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", BAND, "#8c6d31", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
MARKERS = "osD^vPX*"
# (matplotlib types the keys of its settings one by one; Any replaces that list)
SETTINGS: Any = {
    # ids in the file come from this instead of a random number
    "svg.hashsalt": "evalkit",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
WIDTH = 7.2
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class ReportFigure:
    """A figure: the name of its files, what it shows in a few sentences, and the image."""

    name: str
    caption: str
    figure: Figure

    def rendered(self, kind: str) -> bytes:
        """Return the figure as `svg`, `pdf` or `png`."""
        stream = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            # texts have one size in all formats, and the layout takes longer than the drawing
            if self.figure.get_layout_engine() is not None:
                self.figure.draw_without_rendering()
                self.figure.set_layout_engine(None)
            self.figure.savefig(stream, format=kind, metadata=_METADATA[kind])
        return stream.getvalue()

    @cached_property
    def svg(self) -> bytes:
        """Return the figure as SVG, rendered once: the report contains it, and so does a file next to it."""
        return self.rendered("svg")

    def files(self) -> dict[str, bytes]:
        """Return the content of the figure's three files by name."""
        return {f"{self.name}.{kind}": self.svg if kind == "svg" else self.rendered(kind) for kind in _METADATA}


def canvas(height: float, rows: int, label: str) -> tuple[Figure, Axes]:
    """Return a figure for `rows` lines below each other, `height` inches plus the labels, the first line on top."""
    figure = Figure(figsize=(WIDTH, 1.1 + height), layout="constrained")
    axes = figure.add_subplot()
    lines(axes, rows)
    axes.set_xlabel(label)
    return figure, axes


def lines(axes: Axes, rows: int) -> None:
    """Make room for `rows` lines below each other."""
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def legend_below(figure: Figure, columns: int = 3) -> None:
    """Put the legend below everything."""
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def mark(figure: Figure, simulated: bool) -> None:
    """Write across a figure that judgments were simulated."""
    if simulated:
        figure.text(0.5, 0.5, "SIMULATED", color=ORANGE, alpha=0.22, fontsize=38, ha="center", va="center", rotation=12)
