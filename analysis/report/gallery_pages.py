"""Pages next to the report with every comparison: references, all arms' images at full size, votes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.findings import Findings
from analysis.report.gallery import VoteCounts, cells_of, vote_counts

PER_PAGE = 24
FOLDER = "gallery"


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """An image of the run as a relative link."""

    name: str
    link: str


@dataclass(frozen=True, slots=True)
class GalleryCell:
    """One case at one seed, with links to all images."""

    case: str
    seed: int
    prompt: str
    references: tuple[LinkedImage, ...]
    arms: tuple[LinkedImage, ...]
    tallies: tuple[VoteCounts, ...]


def page_name(number: int) -> str:
    """Return the name of a page by its number from 1."""
    return f"page-{number:04d}.html"


def gallery_pages(findings: Findings, run: Path, out: Path) -> dict[str, bytes]:
    """Return every page of the gallery by its path below `out`, the report's folder.

    Pages link to the images in the run folder instead of copying them, so a page opens at once at any number of images. They
    show images as long as the report stays where it is, relative to the run.
    """
    cells = cells_of(findings.data)
    pages = ceil(len(cells) / PER_PAGE)
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("gallery.html.j2")
    files = {}
    for number in range(1, pages + 1):
        here = cells[(number - 1) * PER_PAGE : number * PER_PAGE]
        files[f"{FOLDER}/{page_name(number)}"] = template.render(
            name=findings.data.name,
            simulated=findings.simulated,
            cells=list(_cells(findings, run, out, here)),
            number=number,
            pages=pages,
            first=(number - 1) * PER_PAGE + 1,
            total=len(cells),
            page_name=page_name,
        ).encode()
    return files


def _cells(findings: Findings, run: Path, out: Path, cells: Sequence[tuple[str, int]]) -> Iterator[GalleryCell]:
    data = findings.data
    infos = {case.key: case for case in data.cases}
    base = os.path.relpath(run.resolve(), (out / FOLDER).resolve())

    def linked(name: str, path: str) -> LinkedImage:
        return LinkedImage(name, f"{Path(base).as_posix()}/{path}")

    for case, seed in cells:
        info = infos[case]
        references = tuple(linked(name, path) for name in info.concepts for path in data.references.get(name, ())[:1])
        arms = tuple(linked(arm, data.images[case, arm, seed]) for arm in data.labels if (case, arm, seed) in data.images)
        yield GalleryCell(case, seed, info.prompt, references, arms, vote_counts(data, case, seed))
