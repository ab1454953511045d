"""Draws an experiment's images into a run folder: arm by arm, whole images only, resumable after a kill."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from evalkit.encoders.device import choose_device
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, sha256_file, write_atomic
from evalkit.run import manifest as described
from evalkit.run.image_records import ImageFile
from evalkit.run.manifest import Manifest
from evalkit.run.shard import Shard
from evalkit.weights.lookup import FILE_NAME as WEIGHTS
from generation import provenance
from generation.experiment import Concept, Experiment
from generation.journal import Journal
from generation.paths import metric_weights, references
from generation.provenance import Provenance
from generation.ray_workers import draw_with_ray
from generation.sampler import Artist
from generation.schedule import Drawn, paint, plan_work
from generation.seeds import mask_seed

# Gets how many images are finished, how many there will be, and what is being drawn.
Progress = Callable[[int, int, str], None]


def generate(
    experiment: Experiment,
    run: Path,
    folder: Path,
    text: str = "",
    device: str | None = None,
    batch_size: int = 8,
    progress: Progress = lambda done, total, what: None,
    note: Callable[[str], None] = lambda line: None,
    shard: Shard | None = None,
    ray: str | None = None,
) -> Manifest:
    """Draw every image of `experiment` that `run` lacks; return the manifest, complete.

    Relative paths of the experiment start from `folder`; `text` is the experiment file's own, kept in the provenance. Images
    that are finished, by the sha256 in the journals, are not drawn again. With `shard`, only its cases are drawn, and the
    manifest holds what is finished so far; with `ray`, the workers of that cluster draw (see `generation.ray_workers`).
    However a run is shared out, its manifest and its bytes are the same.

    Raises:
        UserError: `run` is another experiment's, a file is missing or broken, or the disk is full.
    """
    where = torch.device(choose_device(device))
    # with ray the workers draw: this process only checks files and writes
    artist = Artist(experiment, folder, where if ray is None else torch.device("cpu"))
    try:
        for line in artist.notes():
            note(line)
        made_with = _provenance(artist, text, batch_size, str(where))
        _claim(run, experiment.name, made_with.experiment_sha256)
        frame = _begin(artist, run, folder, made_with.experiment_sha256, shard)
        provenance_file = run / (f"provenance.{shard}.json" if shard else provenance.FILE_NAME)
        # what calls before this one took stays, though this one may draw nothing
        if (before := provenance.read(provenance_file)) is not None and before.experiment_sha256 == made_with.experiment_sha256:
            made_with = made_with.having(before.tally)
        write_atomic(provenance_file, made_with.model_dump_json(indent=1) + "\n")
        journal = Journal(run, str(shard or ""))
        works = plan_work(experiment, journal.images.keys(), shard)
        total = len(journal.images) + sum(len(work.cells) for work in works)
        progress(len(journal.images), total, "images")
        noises = {(image.case, image.seed): image.latents_sha256 for image in journal.images.values()}
        images: Iterator[Drawn]
        if ray is None:
            images = (drawn for work in works for drawn in paint(artist, work, batch_size))
        else:
            images = draw_with_ray(experiment, folder, ray, str(where), batch_size, works, artist.tally)
        for drawn in images:
            _keep(journal, drawn, noises)
            progress(len(journal.images), total, drawn.image.arm)
    finally:
        artist.close()
    artist.tally.add(made_with.tally)
    write_atomic(provenance_file, made_with.having(artist.tally).model_dump_json(indent=1) + "\n")
    manifest = _record(frame, run, journal)
    return manifest if shard else manifest.complete(run)


def _keep(journal: Journal, drawn: Drawn, noises: dict[tuple[str, int], str | None]) -> None:
    """Write a finished image; refuse one that began from another noise than the other arms' image of its case and seed."""
    image = drawn.image
    if noises.setdefault((image.case, image.seed), image.latents_sha256) != image.latents_sha256:
        raise UserError(
            f"{image.case}, seed {image.seed}: this machine makes another initial noise than the one "
            "the other arms were drawn from; draw the whole run anew"
        )
    journal.add(image, drawn.png)


def _record(frame: Manifest, run: Path, journal: Journal) -> Manifest:
    """Write and return the manifest of all that is finished; of shards that end together, the last to write knows all."""
    while True:
        journal.catch_up()
        known = len(journal.images)
        images = tuple(journal.images[cell] for cell in frame.expected() if cell in journal.images)
        manifest = Manifest.model_validate({**frame.model_dump(), "images": images})
        manifest.save(run)
        journal.catch_up()
        if len(journal.images) == known:
            return manifest


def _weights_table(experiment: Experiment, folder: Path) -> str:
    """Return the TOML table in which `evalkit score` finds the weights; a JSON string is a TOML string too."""
    lines = (
        f"{json.dumps(name)} = {json.dumps(str(metric_weights(name, value, folder)))}\n"
        for name, value in experiment.weights.items()
    )
    return "".join(("[weights]\n", *lines))


def _provenance(artist: Artist, text: str, batch_size: int, device: str) -> Provenance:
    experiment = artist.experiment
    resolved = experiment.model_dump(mode="json", exclude={"weights"})
    model = provenance.model_sha256(artist.model)
    files = {"adapters": artist.adapters} | ({"embeddings": artist.embeddings} if artist.embeddings else {})
    identity = provenance.as_json({"experiment": resolved, "model": model, **files})
    return Provenance(
        experiment_sha256=sha256_bytes(identity.encode()),
        experiment=resolved,
        experiment_text=text,
        model_sha256=model,
        adapters_sha256=artist.adapters,
        embeddings_sha256=artist.embeddings,
        adapter_scales=artist.scales,
        mask_seeds={arm.label: mask_seed(experiment.sampling.mask_seed, arm.label) for arm in experiment.arms},
        versions=provenance.versions(),
        commit=provenance.commit(),
        machine=provenance.machine(artist.device),
        device=device,
        dtype=experiment.base.dtype,
        threads=torch.get_num_threads(),
        batch_size=batch_size,
    )


def _claim(run: Path, name: str, identity: str) -> None:
    """Raise a UserError where `run` holds something else than this experiment's images."""
    if (run / described.FILE_NAME).exists():
        there = Manifest.load(run)
        if there.experiment_sha256 != identity:
            raise UserError(
                f"{run}: holds a run of another experiment ({there.name}, {there.experiment_sha256[:12]}, not {name}, "
                f"{identity[:12]}); give another --run folder"
            )
    elif run.exists() and (
        not run.is_dir() or any(not path.name.startswith(f".{described.FILE_NAME}.") for path in run.iterdir())
    ):
        raise UserError(f"{run}: is there already and holds no run of ours; give a new --run folder")


def _begin(artist: Artist, run: Path, folder: Path, identity: str, shard: Shard | None) -> Manifest:
    """Write the references, the weights' places and a manifest without images; return that manifest."""
    experiment = artist.experiment
    pictures = {concept.name: list(_pictures(concept, folder)) for concept in experiment.concepts}
    frame = Manifest(
        name=experiment.name,
        experiment_sha256=identity,
        source="generated",
        concepts=tuple(
            described.Concept(
                name=concept.name,
                words=concept.words,
                class_word=concept.class_word,
                references=tuple(picture for picture, _ in pictures[concept.name]),
                adapter_sha256=artist.adapters[concept.name],
            )
            for concept in experiment.concepts
        ),
        arms=tuple(described.Arm(**arm.model_dump(exclude={"adapters"})) for arm in experiment.arms),
        cases=tuple(
            described.Case(**case.model_dump(), plain_prompt=experiment.plain_prompt(case)) for case in experiment.cases
        ),
    )
    # first of all, so that another shard that begins now finds its own run; and never over what another shard recorded
    if shard is None or not (run / described.FILE_NAME).exists():
        frame.save(run)
    for picture, data in (pair for pairs in pictures.values() for pair in pairs):
        path = run / picture.path
        if not path.is_file() or sha256_file(path) != picture.sha256:
            write_atomic(path, data)
    if experiment.weights:
        write_atomic(run / WEIGHTS, _weights_table(experiment, folder))
    return frame


def _pictures(concept: Concept, folder: Path) -> Iterator[tuple[ImageFile, bytes]]:
    """Yield a concept's references: where they go in the run, and their bytes."""
    for number, (suffix, data) in enumerate(references(concept, folder)):
        try:
            width, height = Pictures.open(BytesIO(data)).size
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{concept.references}: reference {number} of {concept.name} is no image: {error}") from error
        path = f"references/{concept.name}/{number:02d}{suffix}"
        yield ImageFile(path=path, sha256=sha256_bytes(data), width=width, height=height), data
