"""Bring images made elsewhere into a run: from any layout or a list of files, with a small TOML of prompts and references."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, write_atomic
from evalkit.io.image_reader import decode, read_bytes
from evalkit.run.file_record import first_mistake, safe_name
from evalkit.run.image_layouts import (
    SUFFIXES,
    LocatedImage,
    check_layout,
    common_seeds,
    is_ignored,
    locate_by_layout,
    locate_by_list,
    locate_in_folders,
    visible,
)
from evalkit.run.image_records import ImageFile, ImageRecord, image_path
from evalkit.run.import_description import FILE_NAME, Description, read_description
from evalkit.run.manifest import FILE_NAME as MANIFEST
from evalkit.run.manifest import Arm, Case, Concept, Manifest

Progress = Callable[[int, int], None]
# the titles that reports print, see analysis.titles
TITLES = "titles.toml"


@dataclass(frozen=True)
class Imported:
    """A run that was imported: its manifest, and what was found out about its images."""

    manifest: Manifest
    notes: tuple[str, ...]
    # the run was there already, the same
    again: bool


@dataclass(frozen=True)
class _Found:
    """An image file and its target path in the run."""

    source: Path
    target: str


@dataclass(frozen=True)
class _Cell:
    """An image file with its case, arm and seed under their names in the run."""

    case: str
    arm: str
    seed: int
    file: _Found


def import_images(
    folder: Path,
    run: Path,
    *,
    describe: Path | None = None,
    layout: str | None = None,
    listed: Path | None = None,
    only_common_seeds: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Copy images and references into a new run, bytes unchanged, and write its manifest; every image is decoded once.

    The run appears whole or not at all. Importing the same again changes nothing, but puts back files that were lost. Ids of
    cases, arms and concepts may be any text: one that can't name a folder is stored under a safe name, and noted.

    Parameters
    ----------
    folder
        The folder of the images.
    run
        The run folder to create.
    describe
        The description; by default `import.toml` in the folder.
    layout
        Where the images are below the folder, such as `{arm}/{case}_{seed}.png`; by default `{case}/{arm}/{seed}`.
    listed
        A CSV or JSON-lines file of paths with case, arm and seed, in place of a layout.
    only_common_seeds
        Leave out, and note, the seeds that not every arm of a case has; otherwise they are an error.
    progress
        Called with the number of images read and of all.

    Raises
    ------
    UserError
        Files lack, are unknown or unreadable, or the run folder already holds something else.
    """
    if layout is not None and listed is not None:
        raise UserError("--layout and --list: both say where the images are; give one of them")
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give one with <case>/<arm>/<seed>.png in it, or --layout")
    if layout is not None:
        check_layout(layout)
    located = None if listed is None else locate_by_list(listed)
    described = describe or folder / FILE_NAME
    text = read_description(described)
    references = {concept.name: _references(described, concept.name, concept.references) for concept in text.concepts}
    reference_folders = sorted({files[0].source.parent for files in references.values() if files})
    apart = [described, folder / FILE_NAME, *reference_folders]
    cases = [case.id for case in text.cases]
    labels = None if text.arms is None else [arm.label for arm in text.arms]
    if layout is not None:
        located = locate_by_layout(folder, layout, cases, labels, apart)
    elif located is None:
        located = locate_in_folders(folder, described, cases, labels, apart)
    arms = _arms(text, located.images)
    beside = [entry for folder in reference_folders for entry in sorted(folder.iterdir()) if is_ignored(entry)]
    located = replace(located, ignored=(*located.ignored, *beside))
    notes = [*located.notes(), *_renamed(text, arms)]
    cells = list(_cells(folder, described, text, arms, located.images, only_common_seeds, notes.append))
    files = [*(reference for group in references.values() for reference in group), *(cell.file for cell in cells)]
    pictures, more_notes = _pictures(files, progress)
    manifest = _manifest(described, text, arms, cells, references, pictures)
    again = _settle(run, manifest, files, _titles(text, arms))
    return Imported(manifest, (*notes, *more_notes), again)


def _references(described: Path, name: str, subfolder: str | None) -> list[_Found]:
    """Return a concept's reference images in the order of their names, numbered from 00."""
    if subfolder is None:
        return []
    folder = described.parent / subfolder
    if not folder.is_dir():
        raise UserError(f"{described}: concept {name}: its references {folder} are not a folder; correct `references`")
    files = sorted(visible(folder))
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{file}: is not an image ({', '.join(SUFFIXES)}); remove it, since a references folder contains only images"
            )
    if not files:
        raise UserError(f"{described}: concept {name}: {folder} contains no images; leave `references` out if there are none")
    return [
        _Found(file, f"references/{safe_name(name)}/{number:02d}{file.suffix.lower()}") for number, file in enumerate(files)
    ]


def _arms(text: Description, images: Iterable[LocatedImage]) -> dict[str, Arm]:
    """Return the arms by their label as described, else as found, by name."""
    if text.arms is not None:
        return {
            arm.label: Arm(label=safe_name(arm.label), method=arm.method or arm.label, parameters=arm.parameters)
            for arm in text.arms
        }
    return {label: Arm(label=safe_name(label), method=label) for label in sorted({image.arm for image in images})}


def _names(text: Description, arms: Mapping[str, Arm]) -> Iterator[tuple[str, str]]:
    """Yield the kind and id of everything that has one."""
    yield from (("concept", concept.name) for concept in text.concepts)
    yield from (("arm", label) for label in arms)
    yield from (("case", case.id) for case in text.cases)


def _renamed(text: Description, arms: Mapping[str, Arm]) -> Iterator[str]:
    """Yield a note for each id that is stored under another name."""
    for kind, name in _names(text, arms):
        if safe_name(name) != name:
            yield f"{kind} {name!r} is stored as {safe_name(name)}"


def _titles(text: Description, arms: Mapping[str, Arm]) -> str:
    """Return the titles file that prints the original ids of arms and concepts; empty if all are stored as they are."""
    lines = []
    for section, kind in (("arms", "arm"), ("concepts", "concept")):
        renamed = [name for its_kind, name in _names(text, arms) if its_kind == kind and safe_name(name) != name]
        if renamed:
            lines.append(f"[{section}]")
            # a JSON string of printable text is a TOML string too
            lines.extend(f"{json.dumps(safe_name(name))} = {json.dumps(name)}" for name in renamed)
    return "".join(f"{line}\n" for line in lines)


def _cells(
    folder: Path,
    described: Path,
    text: Description,
    arms: Mapping[str, Arm],
    images: Iterable[LocatedImage],
    only_common_seeds: bool,
    note: Callable[[str], None],
) -> Iterator[_Cell]:
    """Yield the images case by case, arm by arm and seed by seed; every arm of a case must have the same seeds."""
    by_cell: dict[str, dict[str, dict[int, Path]]] = {case.id: {arm: {} for arm in arms} for case in text.cases}
    for image in images:
        if image.case not in by_cell:
            raise UserError(f"{image.source}: its case {image.case!r} is not in {described}; add it there as a [[cases]] entry")
        if image.arm not in arms:
            raise UserError(f"{image.source}: its arm {image.arm!r} is not in {described}; add it there as an [[arms]] entry")
        files = by_cell[image.case][image.arm]
        if image.seed in files:
            raise UserError(f"{image.source}: and {files[image.seed].name} are both of seed {image.seed}; keep one")
        files[image.seed] = image.source
    for case, by_arm in by_cell.items():
        if not any(by_arm.values()):
            raise UserError(f"{folder}: case {case} of {described} has no images; add them, or remove the case")
        seeds = common_seeds(str(folder / case), by_arm, only_common_seeds, note)
        for label, arm in arms.items():
            for seed in seeds:
                file = by_arm[label][seed]
                target = Path(image_path(safe_name(case), arm.label, seed)).with_suffix(file.suffix.lower()).as_posix()
                yield _Cell(safe_name(case), arm.label, seed, _Found(file, target))


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
    arms: Mapping[str, Arm],
    cells: Sequence[_Cell],
    references: dict[str, list[_Found]],
    pictures: dict[str, ImageFile],
) -> Manifest:
    """Return the manifest; what names the run is the hash of everything else in it."""
    images = []
    seeds: dict[str, dict[int, None]] = {}
    for cell in cells:
        picture = pictures[cell.file.target]
        images.append(ImageRecord(**picture.model_dump(), case=cell.case, arm=cell.arm, seed=cell.seed))
        seeds.setdefault(cell.case, {})[cell.seed] = None
    concepts = tuple(
        Concept(
            name=safe_name(concept.name),
            words=concept.words,
            class_word=concept.class_word,
            references=tuple(pictures[file.target] for file in references[concept.name]),
        )
        for concept in text.concepts
    )
    try:
        cases = tuple(
            Case(
                id=safe_name(case.id),
                concepts=tuple(map(safe_name, case.concepts)),
                prompt=case.prompt,
                plain_prompt=text.plain_prompt(case, str(described)),
                negative_prompt=case.negative_prompt,
                seeds=tuple(seeds[safe_name(case.id)]),
            )
            for case in text.cases
        )
        whole = Manifest(
            name=text.name,
            experiment_sha256="0" * 64,
            source="imported",
            concepts=concepts,
            arms=tuple(arms.values()),
            cases=cases,
            images=tuple(images),
        )
    except ValidationError as error:
        raise UserError(f"{described}: {first_mistake(error)}") from error
    return whole.model_copy(update={"experiment_sha256": sha256_bytes(whole.model_dump_json().encode())})


def _settle(run: Path, manifest: Manifest, files: Sequence[_Found], titles: str) -> bool:
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
        if titles:
            write_atomic(part / TITLES, titles.encode())
        manifest.save(part)
        part.replace(run)
    except OSError as error:
        raise UserError(f"{run}: can't be made: {error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return False
