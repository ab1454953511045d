"""A bounded number of cases: references, the arms side by side, and their votes."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from analysis.database_rows import RunData
from analysis.findings import Findings
from evalkit.errors import UserError
from evalkit.io import image_reader as pixels

MOST_CASES = 12
MOST_REFERENCES = 2
SIDE = 224
RULE = "evenly spaced through the run's cases and seeds, in the order of the experiment; nothing was picked by how it looks"


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """An image inlined as a data URI; `uri` is empty where its file is gone."""

    name: str
    uri: str


@dataclass(frozen=True, slots=True)
class VoteCounts:
    """Votes on two arms' images: for each, and `cannot tell`."""

    first: str
    second: str
    for_first: int
    for_second: int
    cannot_tell: int


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One case at one seed."""

    case: str
    seed: int
    prompt: str
    references: tuple[GalleryImage, ...]
    arms: tuple[GalleryImage, ...]
    tallies: tuple[VoteCounts, ...]


def gallery(findings: Findings, run: Path, most: int = MOST_CASES) -> tuple[GalleryRow, ...]:
    """Return at most `most` cells of the run, evenly spaced among those with votes (among all if there are no votes)."""
    data = findings.data
    cells = cells_of(data)
    votes = data.judgments
    judged = set(zip(votes["case"], votes["seed"], strict=True))
    cells = [cell for cell in cells if cell in judged] or cells
    step = max(1.0, len(cells) / most)
    chosen = [cells[int(index * step)] for index in range(min(most, len(cells)))]
    return tuple(_exhibit(findings, run, case, seed) for case, seed in chosen)


def cells_of(data: RunData) -> list[tuple[str, int]]:
    """Return every case and seed of which there are images, in the order of the experiment."""
    order = {case.key: place for place, case in enumerate(data.cases)}
    return sorted({(case, seed) for case, _, seed in data.images}, key=lambda cell: (order[cell[0]], cell[1]))


def vote_counts(data: RunData, case: str, seed: int) -> tuple[VoteCounts, ...]:
    """Return the votes of one case and seed for every pair of arms that has any."""
    here = data.judgments[(data.judgments["case"] == case) & (data.judgments["seed"] == seed)]
    tallies = []
    for first, second in data.arm_pairs:
        choice = here[(here["first"] == first) & (here["second"] == second)]["choice"]
        if len(choice):
            counts = int((choice == 1).sum()), int((choice == 0).sum()), int((choice == 0.5).sum())
            tallies.append(VoteCounts(first, second, *counts))
    return tuple(tallies)


def _exhibit(findings: Findings, run: Path, case: str, seed: int) -> GalleryRow:
    data = findings.data
    info = next(candidate for candidate in data.cases if candidate.key == case)
    references = tuple(
        GalleryImage(concept, thumbnail(run / path))
        for concept in info.concepts
        for path in data.references.get(concept, ())[:MOST_REFERENCES]
    )
    arms = tuple(
        GalleryImage(arm, thumbnail(run / data.images[case, arm, seed]))
        for arm in data.labels
        if (case, arm, seed) in data.images
    )
    return GalleryRow(case, seed, info.prompt, references, arms, vote_counts(data, case, seed))


def thumbnail(path: Path, side: int = SIDE) -> str:
    """Return an image, at most `side` pixels wide and high, as a data URI; empty if the file is gone or damaged.

    What is small already stays as it is (PNG); the rest is reduced (JPEG).
    """
    try:
        image = pixels.load(path).image
    except UserError:
        return ""
    kind = "PNG" if max(image.size) <= side else "JPEG"
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, kind, quality=82, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
