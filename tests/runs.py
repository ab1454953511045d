"""A whole run folder in well under a second: small drawn images, references and plausible scores."""

import hashlib
import zlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from evalkit.io.atomic_files import sha256_file
from evalkit.run.image_records import ImageFile, ImageRecord, image_path
from evalkit.run.manifest import Arm, Case, Concept, Manifest
from evalkit.run.score_table import RunScore, write_scores

THREE_ARMS = ("direct", "mc_dropout", "orthogonal_mc_dropout")
# names and colours of up to ten concepts: enough for 45 pairs
LOOKS = (
    ("star", "#d1495b"), ("ring", "#2e86ab"), ("cross", "#3a7d44"), ("moon", "#e0a030"), ("leaf", "#6a4c93"),
    ("bell", "#1b998b"), ("kite", "#f46036"), ("drum", "#5c4742"), ("fish", "#9cb380"), ("boat", "#364958"),
)  # fmt: skip
SIDE = 96


def make_run(
    folder: Path,
    arms: Sequence[str] = THREE_ARMS,
    concepts: int = 3,
    seeds: int | Sequence[int] = 2,
    scores: bool = True,
    references: int = 2,
) -> Manifest:
    """Draw a run of all pairs of `concepts` (2 to 10) into `folder` and return its manifest.

    `seeds` are the seeds of every case, or how many: then they are 0, 1, ...

    Every image differs from every other. With `scores`, every metric kind has rows: of the image alone (`musiq`), of image and
    prompt (`clip_t`), of image and concept (`clip_i`, `dino`), of two arms' images (`arm_similarity`, written on the arm that
    comes first). The values are drawn from a generator seeded by the image's cell, so they never change.
    """
    looks = LOOKS[:concepts]
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    described = tuple(
        Concept(
            name=name,
            words=f"<c{index}> {name}",
            class_word=name,
            references=tuple(
                _draw(folder, f"references/{name}/{number:02d}.png", [color], number) for number in range(references)
            ),
            adapter_sha256=hashlib.sha256(name.encode()).hexdigest(),
        )
        for index, (name, color) in enumerate(looks)
    )
    cases = tuple(
        Case(
            id=f"{left[0]}-{right[0]}",
            concepts=(left[0], right[0]),
            prompt=f"a <c> {left[0]} and a <c> {right[0]}",
            plain_prompt=f"a {left[0]} and a {right[0]}",
            seeds=numbers,
        )
        for left, right in combinations(looks, 2)
    )
    colors = dict(looks)
    images = tuple(
        ImageRecord(
            case=case.id,
            arm=arm,
            seed=seed,
            latents_sha256=hashlib.sha256(f"noise {seed}".encode()).hexdigest(),
            **_draw(
                folder,
                image_path(case.id, arm, seed),
                [colors[name] for name in case.concepts],
                zlib.crc32(f"{arm} {seed}".encode()),
            ).model_dump(),
        )
        for case in cases
        for arm in arms
        for seed in numbers
    )
    manifest = Manifest(
        name="drawn",
        experiment_sha256=hashlib.sha256(f"{arms} {concepts} {numbers}".encode()).hexdigest(),
        source="generated",
        concepts=described,
        arms=tuple(Arm(label=arm, method=arm, parameters={} if arm == "direct" else {"p": 0.5}) for arm in arms),
        cases=cases,
        images=images,
    )
    manifest.save(folder)
    if scores:
        write_scores(folder, score_rows(manifest))
    return manifest


def score_rows(manifest: Manifest, signature: str = "drawn:1") -> list[RunScore]:
    """Return plausible scores of every image; later arms score a little higher in `musiq` and lower in `clip_i`."""
    rows = []
    place = {arm.label: index for index, arm in enumerate(manifest.arms)}
    for image in manifest.images:
        rng = np.random.default_rng(zlib.crc32(repr((image.case, image.arm, image.seed, signature)).encode()))
        step = place[image.arm]
        pair = manifest.case(image.case).concepts
        values: list[tuple[str, str, str, float]] = [
            ("musiq", "", "", 60 + step + 5 * rng.standard_normal()),
            ("clip_t", "", "", 0.30 + 0.02 * rng.standard_normal()),
        ]
        for concept in pair:
            values.append(("clip_i", concept, "", 0.70 - 0.01 * step + 0.04 * rng.standard_normal()))
            values.append(("dino", concept, "", 0.45 + 0.06 * rng.standard_normal()))
        for other in manifest.arms[step + 1 :]:
            values.append(("arm_similarity", "", other.label, 0.85 + 0.05 * rng.standard_normal()))
        rows += [
            RunScore(
                case=image.case,
                arm=image.arm,
                seed=image.seed,
                image_sha256=image.sha256,
                metric=metric,
                concept=concept,
                other_arm=other_arm,
                value=float(value),
                direction="none" if metric == "arm_similarity" else "higher",
                signature=f"{metric}|{signature}",
            )
            for metric, concept, other_arm, value in values
        ]
    return rows


def _draw(folder: Path, path: str, colors: Sequence[str], variant: int) -> ImageFile:
    """Draw one shape per colour, its corners and place fixed by `variant`, and return the picture."""
    rng = np.random.default_rng(variant)
    background = tuple(int(value) for value in rng.integers(200, 256, 3))
    image = PILImage.new("RGB", (SIDE, SIDE), background)
    pen = ImageDraw.Draw(image)
    for index, color in enumerate(colors):
        middle = SIDE * (2 * index + 1) / (2 * len(colors)) + rng.uniform(-4, 4)
        circle = (middle, SIDE / 2 + rng.uniform(-12, 12), SIDE / 5)
        pen.regular_polygon(circle, n_sides=int(rng.integers(3, 9)), rotation=int(rng.integers(0, 90)), fill=color)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target)
    return ImageFile(path=path, sha256=sha256_file(target), width=SIDE, height=SIDE)
