"""The case gallery as a figure: references and every arm's image side by side, with the votes."""

import base64
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analysis.findings import Findings
from analysis.report.figure_spec import FigureContent, report_figure
from analysis.report.figure_style import GREY, SETTINGS, WIDTH, mark
from analysis.report.gallery import RULE, GalleryImage, GalleryRow, VoteCounts, gallery

MOST_ROWS = 4
# Inches between two rows, for names and votes; letters of 7 points in an inch.
BETWEEN, LETTERS = 0.5, 16


def case_gallery(exhibits: Sequence[GalleryRow], simulated: bool = False) -> Figure:
    """Return one row per exhibit: its concepts' first references, then every arm, with the votes below."""
    shown = [(_first_of_each(entry.references), entry.arms) for entry in exhibits]
    columns = max(1, *(len(references) + len(arms) for references, arms in shown))
    side = WIDTH / columns
    height = len(exhibits) * (side + BETWEEN)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, height))
        panels = figure.subplots(len(exhibits), columns, squeeze=False)
        # (inches; the constrained layout would make room for the longest line of votes)
        figure.subplots_adjust(0.01, 0.3 / height, 0.99, 1 - 0.25 / height, wspace=0.06, hspace=BETWEEN / side)
        for row, (exhibit, (references, arms)) in enumerate(zip(exhibits, shown, strict=True)):
            for axes in panels[row]:
                axes.set_axis_off()
            for column, image in enumerate((*references, *arms)):
                _picture(panels[row, column], image, side, bold=column >= len(references))
            votes = " · ".join(_votes(tally) for tally in exhibit.tallies)
            text = f"{exhibit.case}, seed {exhibit.seed}{f': {votes}' if votes else ''}"
            below = panels[row, 0]
            below.text(0.0, -0.06, _literal(text), transform=below.transAxes, va="top", fontsize=7)
        mark(figure, simulated and any(entry.tallies for entry in exhibits))
        return figure


def _first_of_each(references: Sequence[GalleryImage]) -> list[GalleryImage]:
    return list({reference.name: reference for reference in reversed(references)}.values())[::-1]


def _votes(tally: VoteCounts) -> str:
    undecided = f" ({tally.cannot_tell} can't tell)" if tally.cannot_tell else ""
    return f"{tally.first} {tally.for_first} : {tally.for_second} {tally.second}{undecided}"


def _picture(axes: Axes, shown: GalleryImage, side: float, bold: bool) -> None:
    """Draw an image under its name, cut to what fits above `side` inches."""
    fits = max(4, int(LETTERS * side))
    name = shown.name if len(shown.name) <= fits else f"{shown.name[: fits - 1]}…"
    axes.set_title(_literal(name), fontsize=7, color="black" if bold else GREY, pad=2)
    if not shown.uri:
        axes.text(0.5, 0.5, "file is gone", ha="center", va="center", fontsize=7, color=GREY, transform=axes.transAxes)
        return
    with Image.open(io.BytesIO(base64.b64decode(shown.uri.partition(",")[2]))) as image:
        axes.imshow(np.asarray(image.convert("RGB")))


def _literal(text: str) -> str:
    """Return a text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


@report_figure("gallery", on_page=False)
def gallery_figure(findings: Findings) -> FigureContent | None:
    """Return the case gallery for a paper, if the run folder is available; the page has a gallery with more cases."""
    exhibits = gallery(findings, findings.run, MOST_ROWS) if findings.run is not None else ()
    if not exhibits:
        return None
    simulated = findings.simulated and any(exhibit.tallies for exhibit in exhibits)
    caption = f"References and images of every arm, with the votes of each pair of arms. Cases and seeds are {RULE}."
    return FigureContent(caption, case_gallery(exhibits, findings.simulated), simulated)
