"""A run's images on one sheet, a row for each case and seed and a column for each arm."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from evalkit.errors import UserError
from evalkit.run.image_records import image_path
from evalkit.run.manifest import Case, Manifest

GAP, TEXT, LETTER = 4, 10, 6  # pixels between images, and a letter's height and width


def sheet(run: Path, cases: Sequence[str] = (), seeds: int = 1, columns: int = 0, side: int = 64) -> Image.Image:
    """Return the images of a run side by side, each `side` pixels wide; of all cases or those named, and of `seeds` seeds each.

    References of the case's first concept are on the left of each row. With `columns`, arms continue in further rows
    below, and the first column holds a small reference of each concept instead.

    Raises:
        UserError: the run has no such case, or no image yet.
    """
    manifest = Manifest.load(run)
    chosen = [manifest.case(name) for name in _known(manifest, cases)]
    arms = [*(["references"] if columns else []), *(arm.label for arm in manifest.arms)]
    width = columns or len(arms)
    rows = [(case, seed) for case in chosen for seed in case.seeds[:seeds]]
    shown = 0 if columns else min(3, max((len(manifest.concept(case.concepts[0]).references) for case in chosen), default=0))
    bands = [arms[start : start + width] for start in range(0, len(arms), width)]
    wrap = (side + GAP) // LETTER
    lines = max(len(_lines(arm, wrap)) for arm in arms)
    head, left = lines * (TEXT + 1) + GAP, shown * (side + GAP) + (2 * GAP if shown else 0)
    band_height = head + len(rows) * (side + GAP) + GAP
    canvas = Image.new("RGB", (left + width * (side + GAP), len(bands) * band_height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    for number, band in enumerate(bands):
        top = number * band_height
        if shown:
            pen.text((0, top), "references", "black", font)
        for column, arm in enumerate(band):
            x = left + column * (side + GAP)
            for line, words in enumerate(_lines(arm, wrap)):
                pen.text((x, top + line * (TEXT + 1)), words, "black", font)
            for row, (case, seed) in enumerate(rows):
                y = top + head + row * (side + GAP)
                if columns and not number and not column:
                    canvas.paste(_small_references(run, manifest, case, side), (x, y))
                    continue
                canvas.paste(_picture(run / image_path(case.id, arm, seed), side), (x, y))
                for index, reference in enumerate(manifest.concept(case.concepts[0]).references[:shown] if not column else ()):
                    canvas.paste(_picture(run / reference.path, side), (index * (side + GAP), y))
    return canvas


def _known(manifest: Manifest, cases: Sequence[str]) -> Sequence[str]:
    names = [case.id for case in manifest.cases]
    for case in cases:
        if case not in names:
            raise UserError(f"--case {case}: {manifest.name} has no such case; it has {', '.join(names[:20])}")
    return cases or names


def _small_references(run: Path, manifest: Manifest, case: Case, side: int) -> Image.Image:
    """Return the first reference of each of a case's concepts, side by side at half size, as far as there is room."""
    canvas = Image.new("RGB", (side, side), "white")
    for index, name in enumerate(case.concepts):
        for reference in manifest.concept(name).references[:1]:
            spot = (index % 2 * side // 2, index // 2 * side // 2)
            canvas.paste(_picture(run / reference.path, side // 2), spot)
    return canvas


def _lines(label: str, wrap: int) -> list[str]:
    """Return a label broken at its underscores into lines of `wrap` letters where that is possible."""
    lines = [""]
    for part in label.replace("_", "_ ").split():
        if lines[-1] and len(lines[-1] + part) > wrap:
            lines.append("")
        lines[-1] += part
    return lines


def _picture(path: Path, side: int) -> Image.Image:
    if not path.is_file():
        raise UserError(f"{path}: not generated yet; finish the run with the command that began it")
    with Image.open(path) as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
