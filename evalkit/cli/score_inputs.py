"""Prompts and references of loose images, from files and folders that are named on the command line."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evalkit.errors import UserError, first_line
from evalkit.plural import plural
from evalkit.scoring.file_scorer import find_images

# Column names of a table of prompts.
FILE_COLUMNS = ("file", "file_name", "image", "path", "name")
PROMPT_COLUMNS = ("prompt", "caption", "text")


def prompts_of(images: Sequence[Path], given: str) -> list[str]:
    """Return one prompt for each image: from a .csv, .tsv or .jsonl table of file and prompt, or one text for all.

    Files are matched by their path as written, else by the end of their path, with or without suffix.

    Raises:
        UserError: the table can't be read, lacks a column, or has no prompt for an image.
    """
    path = Path(given)
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        return [given] * len(images)
    try:
        rows = list(_rows(path))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: can't be read as a table of prompts ({first_line(error)}); give CSV or JSON lines") from error
    prompts: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        name, prompt = _value(row, FILE_COLUMNS), _value(row, PROMPT_COLUMNS)
        if not name or not prompt or not prompt.strip():
            raise UserError(f"{path}: row {number} has no file or no prompt; name the columns file and prompt")
        if prompts.setdefault(name.strip().removeprefix("./"), prompt) != prompt:
            raise UserError(f"{path}: row {number} gives {name} another prompt than an earlier row; remove one")
    matched = [_prompt(image, prompts) for image in images]
    missing = [image for image, prompt in zip(images, matched, strict=True) if prompt is None]
    if missing:
        raise UserError(f"{path}: has no prompt for {plural(len(missing), 'image')}, the first is {missing[0]}; add a row")
    return [prompt for prompt in matched if prompt is not None]


def references_of(folder: Path) -> dict[str, list[Path]]:
    """Return the references in a folder: a concept for each subfolder, or one concept of the folder's name.

    Raises:
        UserError: it is not a folder, or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; --references takes one with images, or with a subfolder per concept")
    groups: dict[str, list[Path]] = {}
    for path in find_images([str(folder)]):
        parts = path.relative_to(folder).parts
        groups.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    if "" in groups and len(groups) > 1:
        raise UserError(f"{folder}: holds images next to subfolders; move {groups[''][0].name} into the folder of its concept")
    return {concept or folder.name: paths for concept, paths in groups.items()}


def _rows(path: Path) -> Iterator[Mapping[str, object]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix.lower() == ".jsonl":
            for line in stream:
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise UserError(f'{path}: a line is not a JSON object; write {{"file": ..., "prompt": ...}}')
                    yield row
        else:
            yield from csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")


def _value(row: Mapping[str, object], columns: Sequence[str]) -> str | None:
    """Return the text of the first of these columns that a row has."""
    return next((str(row[column]) for column in columns if row.get(column) not in (None, "")), None)


def _prompt(image: Path, prompts: Mapping[str, str]) -> str | None:
    """Return the prompt of the longest end of an image's path that the table names, with or without suffix."""
    for path in (image, image.with_suffix("")):
        for start in range(len(path.parts)):
            name = "/".join(path.parts[start:]).lstrip("/")
            if name in prompts:
                return prompts[name]
    return None
