"""A draft of import.toml from the images that are there: cases, arms and references found, prompts to fill in."""

import json
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.plural import plural
from evalkit.run.image_layouts import DEFAULT, SUFFIXES, LocatedImage, locate_by_layout, locate_by_list, visible
from evalkit.run.import_description import FILE_NAME

# a folder of a concept's real photos beside the cases, as the documentation shows it
REFERENCES = ("references", "refs")


def draft_description(folder: Path, *, path: Path | None = None, layout: str | None = None, listed: Path | None = None) -> str:
    """Write a description of the images found in a folder, and return what was found in one line.

    Prompts are taken from a list that has them, and are empty otherwise: the import refuses them until they are filled in.

    Parameters
    ----------
    folder
        The folder of the images.
    path
        The file to write; by default `import.toml` in the folder. It must not exist.
    layout, listed
        As `import_images` takes them.

    Raises
    ------
    UserError
        The file exists already, or no images are found.
    """
    target = path or folder / FILE_NAME
    if target.exists():
        raise UserError(f"{target}: exists already; remove it, or name another file with --describe")
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give the folder of the images")
    references = next((folder / name for name in REFERENCES if (folder / name).is_dir()), None)
    if listed is not None:
        images = locate_by_list(listed).images
    else:
        apart = [target, *([references] if references else [])]
        images = locate_by_layout(folder, layout or DEFAULT, None, None, apart).images
    cases, arms = _in_order(images)
    lines = [f"name = {_quoted(folder.resolve().name)}", ""]
    for concept in _concepts(references):
        where = concept.relative_to(target.parent) if concept.is_relative_to(target.parent) else concept
        lines += ["[[concepts]]", f"name = {_quoted(concept.name)}"]
        lines += ['words = ""  # its words in prompts, such as "<v1> dog"', 'class_word = ""  # such as "dog"']
        lines += [f"references = {_quoted(where.as_posix())}", ""]
    for arm in arms:
        lines += ["[[arms]]", f"label = {_quoted(arm)}", ""]
    for case, prompt in cases.items():
        lines += ["[[cases]]", f"id = {_quoted(case)}"]
        lines += [f"prompt = {_quoted(prompt)}" if prompt else 'prompt = ""  # fill in', "concepts = []", ""]
    write_atomic(target, "\n".join(lines).encode())
    counts = ", ".join((plural(len(images), "image"), plural(len(arms), "arm"), plural(len(cases), "case")))
    return f"{target}: drafted from {counts}; fill in its empty texts"


def _in_order(images: tuple[LocatedImage, ...]) -> tuple[dict[str, str | None], list[str]]:
    """Return the cases, each with its prompt, and the arms, both by name."""
    prompts: dict[str, str | None] = {}
    for image in images:
        known = prompts.setdefault(image.case, image.prompt)
        if image.prompt != known:
            raise UserError(
                f"{image.source}: case {image.case} has two prompts, {known!r} and {image.prompt!r}; give each a case"
            )
    return dict(sorted(prompts.items())), sorted({image.arm for image in images})


def _concepts(references: Path | None) -> list[Path]:
    """Return the folders of references that hold images."""
    folders = [] if references is None else [entry for entry in sorted(visible(references)) if entry.is_dir()]
    return [entry for entry in folders if any(file.suffix.lower() in SUFFIXES for file in visible(entry))]


def _quoted(text: str) -> str:
    # a JSON string is a TOML string too
    return json.dumps(text)
