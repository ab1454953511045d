"""Generation of a run folder: arm by arm, complete images only, resumable after an interruption."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

from evalkit.encoders.device import choose_device
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, sha256_file, write_atomic
from evalkit.run import manifest as manifest_file
from evalkit.run.image_records import ImageFile
from evalkit.run.manifest import Manifest
from evalkit.run.shard import Shard
from evalkit.weights.lookup import FILE_NAME as WEIGHTS
from generation import provenance
from generation.experiment import ConceptSpec, Experiment
from generation.journal import Journal
from generation.paths import metric_weights, references
from generation.provenance import Provenance
from generation.ray_workers import generate_with_ray
from generation.sampler import Sampler
from generation.sampling_checks import prompt_warnings
from generation.schedule import GeneratedImage, plan_work, sample_images
from generation.seeds import mask_seed

# Called with the number of finished images, the number of all images, and the arm that is being generated.
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
    """Generate every image of `experiment` that `run` lacks; return the complete manifest.

    Images that are finished, by the sha256 in the journals, are not generated again. The manifest and the bytes of a run do not
    depend on how it is distributed.

    Parameters
    ----------
    experiment
        The experiment; its relative paths start from `folder`.
    run
        The run folder, created if it does not exist.
    folder
        The folder of the experiment file.
    text
        The text of the experiment file, stored in the provenance.
    device
        A torch device such as "cuda:1"; None chooses a GPU if there is one.
    batch_size
        Images per batch; changes speed and memory, not the images.
    progress
        Called after each image.
    note
        Called with each warning, one line.
    shard
        Generate only the cases of this shard; the manifest then holds the images finished so far.
    ray
        Address of a Ray cluster, or "local": its workers generate (see `generation.ray_workers`).

    Raises
    ------
    UserError
        `run` belongs to another experiment, a file is missing or broken, or the disk is full.
    """
    torch_device = torch.device(choose_device(device))
    # with Ray the workers generate: this process only checks files and writes
    sampler = Sampler(experiment, folder, torch_device if ray is None else torch.device("cpu"))
    try:
        for line in prompt_warnings(sampler.pipeline, experiment.sampling, experiment.cases):
            note(line)
        made_with = _provenance(sampler, text, batch_size, str(torch_device))
        _claim(run, experiment.name, made_with.experiment_sha256)
        empty_manifest = _begin(sampler, run, folder, made_with.experiment_sha256, shard)
        provenance_file = run / (f"provenance.{shard}.json" if shard else provenance.FILE_NAME)
        # the statistics of earlier calls stay, even if this call generates nothing
        earlier = provenance.read(provenance_file)
        if earlier is not None and earlier.experiment_sha256 == made_with.experiment_sha256:
            made_with = made_with.with_stats(earlier.stats)
        write_atomic(provenance_file, made_with.model_dump_json(indent=1) + "\n")
        cases = {case.id for case in (experiment.cases if shard is None else shard.of(experiment.cases))}
        journal = Journal(run, str(shard or ""), lambda cell: cell[0] in cases)
        items = plan_work(experiment, journal.images.keys(), shard)
        total = len(journal.images) + sum(len(item.requests) for item in items)
        progress(len(journal.images), total, "images")
        noise_hashes = {(image.case, image.seed): image.latents_sha256 for image in journal.images.values()}
        images: Generator[GeneratedImage, None, None]
        if ray is None:
            images = (image for item in items for image in sample_images(sampler, item, batch_size))
        else:
            images = generate_with_ray(experiment, folder, ray, str(torch_device), batch_size, items, sampler.stats)
        # an error, of `progress` too, lets Ray's workers go at once
        with closing(images):
            for generated in images:
                _store(journal, generated, noise_hashes)
                progress(len(journal.images), total, generated.image.arm)
    finally:
        sampler.close()
    sampler.stats.add(made_with.stats)
    write_atomic(provenance_file, made_with.with_stats(sampler.stats).model_dump_json(indent=1) + "\n")
    manifest = _write_manifest(empty_manifest, run, journal)
    return manifest if shard else manifest.complete(run)


def _store(journal: Journal, generated: GeneratedImage, noise_hashes: dict[tuple[str, int], str | None]) -> None:
    """Write a finished image; refuse one whose initial noise differs from that of the same case and seed in other arms."""
    image = generated.image
    if noise_hashes.setdefault((image.case, image.seed), image.latents_sha256) != image.latents_sha256:
        raise UserError(
            f"{image.case}, seed {image.seed}: the initial noise on this machine differs from that of the other arms; "
            "generate the whole run again, in a new --run folder"
        )
    journal.add(image, generated.png)


def _write_manifest(empty: Manifest, run: Path, journal: Journal) -> Manifest:
    """Write and return the manifest of all finished images; if shards end together, the last to write includes all."""
    while True:
        journal.catch_up()
        count = len(journal.images)
        images = tuple(journal.images[cell] for cell in empty.expected() if cell in journal.images)
        manifest = Manifest.model_validate({**empty.model_dump(), "images": images})
        manifest.save(run)
        journal.catch_up()
        if len(journal.images) == count:
            return manifest


def _weights_table(experiment: Experiment, folder: Path) -> str:
    """Return the TOML table of the metrics' weights for `evalkit score`; a JSON string is also a TOML string."""
    lines = (
        f"{json.dumps(name)} = {json.dumps(str(metric_weights(name, value, folder)))}\n"
        for name, value in experiment.weights.items()
    )
    return "".join(("[weights]\n", *lines))


def _provenance(sampler: Sampler, text: str, batch_size: int, device: str) -> Provenance:
    experiment = sampler.experiment
    resolved = experiment.model_dump(mode="json", exclude={"weights"})
    model = provenance.model_sha256(sampler.model)
    files = {"adapters": sampler.loras.sha256} | ({"embeddings": sampler.embeddings} if sampler.embeddings else {})
    identity = provenance.as_json({"experiment": resolved, "model": model, **files})
    return Provenance(
        experiment_sha256=sha256_bytes(identity.encode()),
        experiment=resolved,
        experiment_text=text,
        model_sha256=model,
        adapters_sha256=sampler.loras.sha256,
        embeddings_sha256=sampler.embeddings,
        adapter_scales=sampler.loras.scales,
        mask_seeds={arm.label: mask_seed(experiment.sampling.mask_seed, arm.label) for arm in experiment.arms},
        versions=provenance.versions(),
        commit=provenance.commit(),
        machine=provenance.machine(sampler.device),
        device=device,
        dtype=experiment.base.dtype,
        threads=torch.get_num_threads(),
        batch_size=batch_size,
    )


def _claim(run: Path, name: str, identity: str) -> None:
    """Raise a UserError if `run` contains anything but this experiment's images."""
    if (run / manifest_file.FILE_NAME).exists():
        existing = Manifest.load(run)
        if existing.experiment_sha256 != identity:
            raise UserError(
                f"{run}: contains the run of another experiment ({existing.name}, {existing.experiment_sha256[:12]}, "
                f"not {name}, {identity[:12]}); give another --run folder"
            )
    elif run.exists() and (
        not run.is_dir() or any(not path.name.startswith(f".{manifest_file.FILE_NAME}.") for path in run.iterdir())
    ):
        raise UserError(f"{run}: exists and is not a run folder; give a new --run folder")


def _begin(sampler: Sampler, run: Path, folder: Path, identity: str, shard: Shard | None) -> Manifest:
    """Write the references, the table of metric weights and a manifest without images; return that manifest."""
    experiment = sampler.experiment
    reference_images = {concept.name: list(_references(concept, folder)) for concept in experiment.concepts}
    manifest = Manifest(
        name=experiment.name,
        experiment_sha256=identity,
        source="generated",
        concepts=tuple(
            manifest_file.Concept(
                name=concept.name,
                words=concept.words,
                class_word=concept.class_word,
                references=tuple(record for record, _ in reference_images[concept.name]),
                adapter_sha256=sampler.loras.sha256[concept.name],
            )
            for concept in experiment.concepts
        ),
        arms=tuple(manifest_file.Arm(**arm.model_dump(exclude={"adapters"})) for arm in experiment.arms),
        cases=tuple(
            manifest_file.Case(**case.model_dump(), plain_prompt=experiment.plain_prompt(case)) for case in experiment.cases
        ),
    )
    # before the references, so that another shard that starts now finds its own run; never over another shard's manifest
    if shard is None or not (run / manifest_file.FILE_NAME).exists():
        manifest.save(run)
    for record, data in (pair for pairs in reference_images.values() for pair in pairs):
        path = run / record.path
        if not path.is_file() or sha256_file(path) != record.sha256:
            write_atomic(path, data)
    if experiment.weights:
        write_atomic(run / WEIGHTS, _weights_table(experiment, folder))
    return manifest


def _references(concept: ConceptSpec, folder: Path) -> Iterator[tuple[ImageFile, bytes]]:
    """Yield a concept's reference images: their record in the manifest, and their bytes."""
    for number, (suffix, data) in enumerate(references(concept, folder)):
        try:
            width, height = Image.open(BytesIO(data)).size
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(
                f"{concept.references}: reference {number} of {concept.name} is not a readable image ({error}); replace it"
            ) from error
        path = f"references/{concept.name}/{number:02d}{suffix}"
        yield ImageFile(path=path, sha256=sha256_bytes(data), width=width, height=height), data
