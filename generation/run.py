"""Draws an experiment's images into a run folder: arm by arm, whole images only, resumable after a kill."""

import json
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from evalkit import manifest as records
from evalkit.errors import UserError
from evalkit.files import sha256_bytes, sha256_file, write_atomic
from evalkit.manifest import Manifest, image_path
from evalkit.weights import FILE_NAME as WEIGHTS
from generation import provenance
from generation.artist import Artist, Cell
from generation.experiment import Concept, Experiment
from generation.journal import Journal
from generation.pipeline import choose_device
from generation.places import metric_weights, references
from generation.provenance import Provenance
from generation.seeds import mask_seed, noise_sha256

# Gets how many images are finished, how many there will be, and what is being drawn.
Progress = Callable[[int, int, str], None]
Item = TypeVar("Item")


def generate(
    experiment: Experiment,
    run: Path,
    folder: Path,
    text: str = "",
    device: str | None = None,
    batch_size: int = 8,
    progress: Progress = lambda done, total, what: None,
    note: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Draw every image of `experiment` that `run` lacks; return the manifest, complete.

    Relative paths of the experiment start from `folder`; `text` is the experiment file's own, kept in the provenance. Images
    that are finished, by the sha256 in the journal, are not drawn again.

    Raises:
        UserError: `run` is another experiment's, a file is missing or broken, or the disk is full.
    """
    artist = Artist(experiment, folder, choose_device(device))
    try:
        for line in artist.notes():
            note(line)
        made_with = _provenance(artist, text, batch_size)
        _claim(run, experiment.name, made_with.experiment_sha256)
        frame = _frame(artist, run, folder, made_with.experiment_sha256)
        frame.save(run)
        if experiment.weights:
            write_atomic(run / WEIGHTS, _weights_table(experiment, folder))
        write_atomic(run / provenance.FILE_NAME, made_with.model_dump_json(indent=1) + "\n")
        journal = Journal(run)
        _draw(artist, journal, len(list(frame.expected())), batch_size, progress)
    finally:
        artist.close()
    seconds = {f"{what}_seconds": dict(spent) for what, spent in artist.seconds.items()}
    write_atomic(run / provenance.FILE_NAME, made_with.model_copy(update=seconds).model_dump_json(indent=1) + "\n")
    images = tuple(journal.images[cell] for cell in frame.expected() if cell in journal.images)
    whole = Manifest.model_validate({**frame.model_dump(), "images": images})
    whole.save(run)
    return whole.complete(run)


def _draw(artist: Artist, journal: Journal, total: int, batch_size: int, progress: Progress) -> None:
    noises = {(image.case, image.seed): image.latents_sha256 for image in journal.images.values()}
    for arm in artist.experiment.arms:
        progress(len(journal.images), total, arm.label)
        missing = [
            Cell(case, seed)
            for case in artist.experiment.cases
            for seed in case.seeds
            if (case.id, arm.label, seed) not in journal.images
        ]
        for concepts, cells in _by_concepts(missing):
            with artist.merged(arm, concepts):
                for batch in _chunks(cells, batch_size):
                    for cell, pixels in zip(batch, artist.draw(batch), strict=True):
                        noise = noise_sha256(artist.noise(cell.seed))
                        if noises.setdefault((cell.case.id, cell.seed), noise) != noise:
                            raise UserError(
                                f"{cell.case.id}, seed {cell.seed}: this machine makes another initial noise than the one "
                                "the other arms were drawn from; draw the whole run anew"
                            )
                        _finish(journal, cell, arm.label, pixels, noise)
                    progress(len(journal.images), total, arm.label)


def _by_concepts(cells: Sequence[Cell]) -> Iterator[tuple[tuple[str, ...], list[Cell]]]:
    """Yield the cells that one merge serves; those with and without a negative prompt apart, since a batch can't mix them."""

    def shared(cell: Cell) -> tuple[tuple[str, ...], bool]:
        return cell.case.concepts, cell.case.negative_prompt is None

    for (concepts, _), group in groupby(sorted(cells, key=shared), key=shared):
        yield concepts, list(group)


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _finish(journal: Journal, cell: Cell, arm: str, pixels: NDArray[np.uint8], noise: str) -> None:
    buffer = BytesIO()
    Pictures.fromarray(pixels).save(buffer, "PNG")
    png = buffer.getvalue()
    height, width = pixels.shape[:2]
    path = image_path(cell.case.id, arm, cell.seed)
    image = records.Image(
        path=path, sha256=sha256_bytes(png), width=width, height=height, case=cell.case.id, arm=arm, seed=cell.seed,
        latents_sha256=noise,
    )  # fmt: skip
    journal.add(image, png)


def _weights_table(experiment: Experiment, folder: Path) -> str:
    """Return the TOML table in which `evalkit score` finds the weights; a JSON string is a TOML string too."""
    lines = (
        f"{json.dumps(name)} = {json.dumps(str(metric_weights(name, value, folder)))}\n"
        for name, value in experiment.weights.items()
    )
    return "".join(("[weights]\n", *lines))


def _provenance(artist: Artist, text: str, batch_size: int) -> Provenance:
    experiment = artist.experiment
    resolved = experiment.model_dump(mode="json", exclude={"weights"})
    model = provenance.model_sha256(artist.model)
    identity = provenance.as_json({"experiment": resolved, "model": model, "adapters": artist.adapters})
    return Provenance(
        experiment_sha256=sha256_bytes(identity.encode()),
        experiment=resolved,
        experiment_text=text,
        model_sha256=model,
        adapters_sha256=artist.adapters,
        adapter_scales=artist.scales,
        mask_seeds={arm.label: mask_seed(experiment.sampling.mask_seed, arm.label) for arm in experiment.arms},
        versions=provenance.versions(),
        commit=provenance.commit(),
        machine=provenance.machine(artist.device),
        device=str(artist.device),
        dtype=experiment.base.dtype,
        threads=torch.get_num_threads(),
        batch_size=batch_size,
    )


def _claim(run: Path, name: str, identity: str) -> None:
    """Raise a UserError where `run` holds something else than this experiment's images."""
    if (run / records.FILE_NAME).exists():
        there = Manifest.load(run)
        if there.experiment_sha256 != identity:
            raise UserError(
                f"{run}: holds a run of another experiment ({there.name}, {there.experiment_sha256[:12]}, not {name}, "
                f"{identity[:12]}); give another --run folder"
            )
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"{run}: is there already and holds no run of ours; give a new --run folder")


def _frame(artist: Artist, run: Path, folder: Path, identity: str) -> Manifest:
    """Return the manifest without images, after copying the references into the run."""
    experiment = artist.experiment
    return Manifest(
        name=experiment.name,
        experiment_sha256=identity,
        source="generated",
        concepts=tuple(_concept(concept, artist, run, folder) for concept in experiment.concepts),
        arms=tuple(records.Arm(**arm.model_dump()) for arm in experiment.arms),
        cases=tuple(records.Case(**case.model_dump(), plain_prompt=experiment.plain_prompt(case)) for case in experiment.cases),
    )


def _concept(concept: Concept, artist: Artist, run: Path, folder: Path) -> records.Concept:
    pictures = []
    for number, (suffix, data) in enumerate(references(concept, folder)):
        path = f"references/{concept.name}/{number:02d}{suffix}"
        digest = sha256_bytes(data)
        try:
            width, height = Pictures.open(BytesIO(data)).size
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{concept.references}: reference {number} of {concept.name} is no image: {error}") from error
        if not (run / path).is_file() or sha256_file(run / path) != digest:
            write_atomic(run / path, data)
        pictures.append(records.Picture(path=path, sha256=digest, width=width, height=height))
    return records.Concept(
        name=concept.name, words=concept.words, class_word=concept.class_word, references=tuple(pictures),
        adapter_sha256=artist.adapters[concept.name],
    )  # fmt: skip
