"""Bring images made elsewhere into a run: FOLDER/<case>/<arm>/<seed>.png and a small TOML with prompts and references."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, write_atomic
from evalkit.io.image_reader import decode, read_bytes
from evalkit.plural import plural
from evalkit.run.file_record import check_name, first_mistake
from evalkit.run.image_records import ImageFile, ImageRecord, image_path
from evalkit.run.import_description import FILE_NAME, Description, ImportedCase, read_description
from evalkit.run.manifest import FILE_NAME as MANIFEST
from evalkit.run.manifest import Arm, Case, Concept, Manifest

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Imported:
    """A run that was imported: its manifest, and what was found out about its images."""

    manifest: Manifest
    notes: tuple[str, ...]
    # the run was there already, the same
    again: bool


@dataclass(frozen=True)
class _Found:
    """An image file, its target path in the run, and its cell unless it is a reference."""

    source: Path
    target: str


def import_images(folder: Path, run: Path, *, describe: Path | None = None, progress: Progress | None = None) -> Imported:
    """Copy images and references into a new run, bytes unchanged, and write its manifest; every image is decoded once.

    The run appears whole or not at all. Importing the same again changes nothing, but puts back files that were lost.

    Raises:
        UserError: files lack, are alien or unreadable, or the run folder already holds something else.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give one with <case>/<arm>/<seed>.png in it")
    described = describe or folder / FILE_NAME
    text = read_description(described)
    references = {concept.name: _references(described, concept.name, concept.references) for concept in text.concepts}
    _no_aliens(folder, described, text, [files[0].source.parent for files in references.values() if files])
    arms = _arms(folder, text)
    cells = [cell for case in text.cases for cell in _cells(folder, case, [arm.label for arm in arms])]
    files = [*(reference for group in references.values() for reference in group), *(image for _, image in cells)]
    pictures, notes = _pictures(files, progress)
    manifest = _manifest(described, text, arms, cells, references, pictures)
    again = _settle(run, manifest, files)
    return Imported(manifest, notes, again)


def _references(described: Path, name: str, subfolder: str | None) -> list[_Found]:
    """Return a concept's reference images in the order of their names, numbered from 00."""
    if subfolder is None:
        return []
    folder = described.parent / subfolder
    if not folder.is_dir():
        raise UserError(f"{described}: concept {name}: its references {folder} are not a folder; correct `references`")
    files = sorted(_visible(folder))
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{file}: is not an image ({', '.join(SUFFIXES)}); remove it, since a references folder contains only images"
            )
    if not files:
        raise UserError(f"{described}: concept {name}: {folder} contains no images; leave `references` out if there are none")
    return [_Found(file, f"references/{name}/{number:02d}{file.suffix.lower()}") for number, file in enumerate(files)]


def _no_aliens(folder: Path, described: Path, text: Description, references: Sequence[Path]) -> None:
    """Raise a UserError that names the first entry of the folder that is not a case, reference folder or description."""
    known = {case.id for case in text.cases}
    for entry in sorted(_visible(folder)):
        holds_references = any(reference.resolve().is_relative_to(entry.resolve()) for reference in references)
        if entry.name in known and entry.is_dir():
            continue
        if not holds_references and entry.resolve() != described.resolve() and entry.name != FILE_NAME:
            raise UserError(f"{entry}: is not a case of {described}; add it there as a [[cases]] entry, or remove it")
    for case in text.cases:
        if not (folder / case.id).is_dir():
            raise UserError(f"{folder}: case {case.id} of {described} has no folder there; make it, or remove the case")


def _arms(folder: Path, text: Description) -> tuple[Arm, ...]:
    """Return the arms as described, else every folder found in a case, by name."""
    if text.arms is not None:
        return tuple(Arm(label=arm.label, method=arm.method or arm.label, parameters=arm.parameters) for arm in text.arms)
    labels = sorted({entry.name for case in text.cases for entry in _visible(folder / case.id) if entry.is_dir()})
    return tuple(Arm(label=check_name("arm", label), method=label) for label in labels)


def _cells(folder: Path, case: ImportedCase, arms: Sequence[str]) -> Iterator[tuple[tuple[str, str, int], _Found]]:
    """Yield the images of a case, arm by arm and seed by seed; every arm must have the same seeds."""
    for entry in sorted(_visible(folder / case.id)):
        if entry.name not in arms or not entry.is_dir():
            raise UserError(f"{entry}: is not an arm; known arms: {', '.join(arms) or 'none'}")
    by_arm = {arm: _seeds(folder / case.id / arm) for arm in arms}
    seeds = sorted({seed for files in by_arm.values() for seed in files})
    if not seeds:
        raise UserError(f"{folder / case.id}: holds no images; expected <arm>/<seed>.png")
    lacking = [f"{arm}/{seed}" for arm in arms for seed in seeds if seed not in by_arm[arm]]
    if lacking:
        raise UserError(
            f"{folder / case.id}: {plural(len(lacking), 'image is', 'images are')} missing, "
            f"the first is {lacking[0]}; every arm needs the same seeds"
        )
    for arm in arms:
        for seed in seeds:
            file = by_arm[arm][seed]
            target = Path(image_path(case.id, arm, seed)).with_suffix(file.suffix.lower()).as_posix()
            yield (case.id, arm, seed), _Found(file, target)


def _seeds(folder: Path) -> dict[int, Path]:
    """Return the images of an arm by seed."""
    by_seed: dict[int, Path] = {}
    for file in sorted(_visible(folder)) if folder.is_dir() else ():
        digits = file.stem
        if file.suffix.lower() not in SUFFIXES or not (digits.isascii() and digits.isdigit()) or not file.is_file():
            raise UserError(
                f"{file}: is not the image of a seed; its name has to be a number with one of {', '.join(SUFFIXES)}"
            )
        if int(digits) in by_seed:
            raise UserError(f"{file}: and {by_seed[int(digits)].name} are both of seed {int(digits)}; keep one")
        by_seed[int(digits)] = file
    return by_seed


def _pictures(files: Sequence[_Found], progress: Progress | None) -> tuple[dict[str, ImageFile], tuple[str, ...]]:
    """Return every file as an image by its place in the run, and what was done to read it."""
    pictures: dict[str, ImageFile] = {}
    notes: list[str] = []
    for done, file in enumerate(files, start=1):
        data = read_bytes(file.source)
        pixels = decode(data, str(file.source))
        width, height = pixels.image.size
        pictures[file.target] = ImageFile(path=file.target, sha256=sha256_bytes(data), width=width, height=height)
        if pixels.notes:
            notes.append(f"{file.source}: {', '.join(pixels.notes)}")
        if progress is not None:
            progress(done, len(files))
    return pictures, tuple(notes)


def _manifest(
    described: Path,
    text: Description,
    arms: tuple[Arm, ...],
    cells: Sequence[tuple[tuple[str, str, int], _Found]],
    references: dict[str, list[_Found]],
    pictures: dict[str, ImageFile],
) -> Manifest:
    """Return the manifest; what names the run is the hash of everything else in it."""
    images = []
    seeds: dict[str, dict[int, None]] = {}
    for (case_id, arm, seed), file in cells:
        picture = pictures[file.target]
        images.append(ImageRecord(**picture.model_dump(), case=case_id, arm=arm, seed=seed))
        seeds.setdefault(case_id, {})[seed] = None
    concepts = tuple(
        Concept(
            name=concept.name,
            words=concept.words,
            class_word=concept.class_word,
            references=tuple(pictures[file.target] for file in references[concept.name]),
        )
        for concept in text.concepts
    )
    try:
        cases = tuple(
            Case(
                id=case.id,
                concepts=case.concepts,
                prompt=case.prompt,
                plain_prompt=text.plain_prompt(case, str(described)),
                negative_prompt=case.negative_prompt,
                seeds=tuple(seeds[case.id]),
            )
            for case in text.cases
        )
        whole = Manifest(
            name=text.name,
            experiment_sha256="0" * 64,
            source="imported",
            concepts=concepts,
            arms=arms,
            cases=cases,
            images=tuple(images),
        )
    except ValidationError as error:
        raise UserError(f"{described}: {first_mistake(error)}") from error
    return whole.model_copy(update={"experiment_sha256": sha256_bytes(whole.model_dump_json().encode())})


def _settle(run: Path, manifest: Manifest, files: Sequence[_Found]) -> bool:
    """Put the run in its place; return whether it was there already.

    Raises:
        UserError: another run, or something else, is in the folder.
    """
    if (run / MANIFEST).exists():
        existing = Manifest.load(run)
        if existing != manifest:
            raise UserError(f"{run}: holds another run, {existing.name!r}; choose another folder for --run")
        for file in files:
            if not (run / file.target).is_file():
                write_atomic(run / file.target, read_bytes(file.source))
        return True
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"{run}: is not empty and holds no run; choose another folder for --run")
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{run.name}.", suffix=".part", dir=run.parent))
    except OSError as error:
        raise UserError(f"{run}: can't be made: {error.strerror or error}; choose a folder that you may write to") from error
    try:
        part.chmod(0o755)
        for file in files:
            write_atomic(part / file.target, read_bytes(file.source))
        manifest.save(part)
        part.replace(run)
    except OSError as error:
        raise UserError(f"{run}: can't be made: {error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return False


def _visible(folder: Path) -> Iterator[Path]:
    """Yield a folder's entries but for hidden ones, which systems strew about."""
    return (entry for entry in folder.iterdir() if not entry.name.startswith("."))
