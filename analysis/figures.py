"""Forest plots as SVG: vector, colour-blind-safe, the same bytes on every run."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.metric_tables import heading

# Okabe and Ito (2008), told apart by people with any colour vision; shape and weight say the same again.
BLUE, ORANGE, GREY, BAND = "#0072B2", "#D55E00", "#6b6f76", "#56B4E9"
# (matplotlib types the keys of its settings one by one; Any stands for that list)
SETTINGS: Any = {
    # ids in the file come from this instead of a random number
    "svg.hashsalt": "evalkit",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure: its file name, what it shows in one sentence, and its SVG."""

    name: str
    caption: str
    svg: str


def drawings(found: Findings) -> tuple[Drawing, ...]:
    """Return every figure the findings allow."""
    made = (preference_forest(found), metric_forest(found))
    return tuple(drawing for drawing in made if drawing is not None)


def preference_forest(found: Findings) -> Drawing | None:
    """Return the share of votes of every pair of arms with its clustered interval, beside the naive one; None without votes."""
    kept = [each for each in found.preferences if each.clustered.estimate is not None]
    if not kept:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = _canvas(0.42 * len(kept), len(kept), "share for the first arm, %")
        if found.margin is not None:
            axes.axvspan(50 - 100 * found.margin, 50 + 100 * found.margin, color=BAND, alpha=0.25, lw=0, label="margin")
        axes.axvline(50, color="black", lw=0.8)
        for row, each in enumerate(kept):
            _bar(axes, row - 0.13, each.clustered, 100.0, BLUE, "o", 2.4, "votes, clustered 95 % CI" if not row else None)
            if each.naive.estimate is not None:
                _bar(axes, row + 0.17, each.naive, 100.0, GREY, "s", 1.0, "majority, naive 95 % CI" if not row else None)
        axes.set_yticks(range(len(kept)), [f"{each.first}\nvs {each.second}" for each in kept])
        axes.set_xlim(0, 100)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        _mark(figure, found.simulated)
        told = "Right of 50 %: the first arm is preferred. "
        if found.margin is not None:
            told += f"Band: the margin on the share of {found.margin_scale}. "
        told += "Thick: votes, allowing for shared concepts and participants. Thin: majority outcomes taken as independent."
        return Drawing("preference", _caption(told, found.simulated), _svg(figure))


def metric_forest(found: Findings) -> Drawing | None:
    """Return every metric's paired differences in units of their standard deviation, good to the right; None without any."""
    kept = [
        (metric, contrast)
        for metric in found.metrics
        if metric.direction != "none"
        for contrast in metric.contrasts
        if contrast.effect_size is not None and contrast.estimate and contrast.interval is not None
    ]
    if not kept:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = _canvas(0.24 * len(kept), len(kept), "paired difference in its standard deviations (d_z)")
        axes.axvline(0, color="black", lw=0.8)
        for row, (metric, contrast) in enumerate(kept):
            factor = (contrast.effect_size or 0.0) / (contrast.estimate or 1.0) * (-1.0 if metric.direction == "lower" else 1.0)
            clear = contrast.verdict.startswith("different")
            _bar(axes, row, contrast, factor, BLUE if clear else GREY, "o" if clear else "D", 2.2 if clear else 1.4, None)
        names = [f"{heading(metric)}: {contrast.first} vs {contrast.second}" for metric, contrast in kept]
        axes.set_yticks(range(len(kept)), names)
        return Drawing(
            "metrics",
            "Right of 0: the first arm is better. Blue circles: separated after Holm; grey diamonds: not. "
            "Intervals at 95 %, allowing for shared concepts.",
            _svg(figure),
        )


def _canvas(height: float, rows: int, label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 1.1 + height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    return figure, axes


def _bar(
    axes: Axes, y: float, contrast: Contrast, factor: float, color: str, marker: str, width: float, label: str | None
) -> None:
    x = factor * (contrast.estimate or 0.0)
    if contrast.interval is not None:
        axes.plot([factor * end for end in contrast.interval], [y, y], color=color, lw=width, solid_capstyle="round")
    axes.plot([x], [y], marker=marker, color=color, ms=3.5 + width, ls="none", label=label)


def _mark(figure: Figure, simulated: bool) -> None:
    if simulated:
        figure.text(0.5, 0.5, "SIMULATED", color=ORANGE, alpha=0.22, fontsize=38, ha="center", va="center", rotation=12)


def _caption(text: str, simulated: bool) -> str:
    return f"[simulated judgments] {text}" if simulated else text


def _svg(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue().decode()


def names(made: Sequence[Drawing]) -> dict[str, str]:
    """Return the content of the figures' files by name."""
    return {f"{drawing.name}.svg": drawing.svg for drawing in made}
