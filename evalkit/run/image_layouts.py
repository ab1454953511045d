"""Where the images of a case, arm and seed are: plain folders, a layout such as `{arm}/{case}_{seed}.png`, a list."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import UserError
from evalkit.plural import plural

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
DEFAULT = "{case}/{arm}/{seed}"
FIELDS = ("case", "arm", "seed")
# what operating systems put into folders
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"})
# what other programs put beside images: prompts, settings, logs, tables, tensors
COMPANIONS = (
    ".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini", ".log", ".html", ".xml", ".pdf",
    ".npy", ".npz", ".pt", ".pth", ".safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class LocatedImage:
    """An image file with its case, arm and seed, as its path or a list has them."""

    source: Path
    case: str
    arm: str
    seed: int
    # from a list with that column
    prompt: str | None = None


@dataclass(frozen=True)
class LocatedImages:
    """All images that were found, and the files that were left out by rule."""

    images: tuple[LocatedImage, ...]
    ignored: tuple[Path, ...] = ()

    def notes(self) -> Iterator[str]:
        """Yield what was left out, in one line."""
        if self.ignored:
            kinds = Counter(file.suffix.lower() or file.name for file in self.ignored)
            counts = ", ".join(f"{number} x {kind}" for kind, number in sorted(kinds.items()))
            yield f"{plural(len(self.ignored), 'file')} beside the images ignored: {counts}"


def is_ignored(file: Path) -> bool:
    """Return whether a file is left out by rule: hidden, of an operating system, or a companion of images that is no image."""
    return file.name.startswith(".") or file.name.lower() in SYSTEM_FILES or file.suffix.lower() in COMPANIONS


def locate_in_folders(
    folder: Path, described: Path, cases: Sequence[str], arms: Sequence[str] | None, elsewhere: Sequence[Path]
) -> LocatedImages:
    """Return the images of FOLDER/<case>/<arm>/<seed>.png.

    Raises
    ------
    UserError
        An entry is no case, arm or image of a seed; it is named.
    """
    for entry in sorted(visible(folder)):
        holds_known = any(path.resolve().is_relative_to(entry.resolve()) for path in elsewhere)
        if not (entry.name in cases and entry.is_dir()) and not holds_known:
            raise UserError(
                f"{entry}: is not a case of {described}; add it there as a [[cases]] entry, remove it, or give --layout"
            )
    images: list[LocatedImage] = []
    ignored = [entry for entry in sorted(folder.iterdir()) if is_ignored(entry) and entry not in elsewhere]
    for case in cases:
        if not (folder / case).is_dir():
            raise UserError(f"{folder}: case {case} of {described} has no folder there; make it, or remove the case")
        for entry in sorted((folder / case).iterdir()):
            if is_ignored(entry):
                ignored.append(entry)
            elif not entry.is_dir() or (arms is not None and entry.name not in arms):
                raise UserError(f"{entry}: is not an arm; known arms: {', '.join(arms or ()) or 'every folder here'}")
            else:
                ignored.extend(file for file in sorted(entry.iterdir()) if is_ignored(file))
                images.extend(LocatedImage(file, case, entry.name, seed) for file, seed in _seeds(entry))
        if not any(image.case == case for image in images):
            raise UserError(f"{folder / case}: holds no images; expected <arm>/<seed>.png")
    return LocatedImages(tuple(images), tuple(ignored))


def _seeds(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the images of an arm, each with its seed."""
    for file in sorted(visible(folder)):
        digits = file.stem
        if file.suffix.lower() not in SUFFIXES or not (digits.isascii() and digits.isdigit()) or not file.is_file():
            raise UserError(
                f"{file}: is not the image of a seed; its name has to be a number with one of {', '.join(SUFFIXES)}"
            )
        yield file, int(digits)


def check_layout(layout: str) -> None:
    """Raise a UserError if a layout has no {arm} or an unknown field."""
    _pattern(layout, None, None, True)


def locate_by_layout(
    folder: Path, layout: str, cases: Sequence[str] | None, arms: Sequence[str] | None, elsewhere: Sequence[Path]
) -> LocatedImages:
    """Return the images below a folder whose paths match a layout.

    Parameters
    ----------
    folder
        The folder of the images.
    layout
        A path below the folder with the fields {case}, {arm} and {seed} and `*` for any text without a slash; without {seed}
        every image has seed 0, without {case} there is one case. With a suffix it takes that suffix alone.
    cases, arms
        The known ids; None if any text may be one.
    elsewhere
        Files and folders in it that hold no such images: references, the description.

    Raises
    ------
    UserError
        The layout has no {arm} or an unknown field, a path can be split in several ways, an image matches nothing.
    """
    patterns = [_pattern(layout, cases, arms, greedy) for greedy in (True, False)]
    images: list[LocatedImage] = []
    ignored: list[Path] = []
    unmatched: list[Path] = []
    for file in _files(folder, elsewhere):
        if is_ignored(file) or any(part.lower() in SYSTEM_FILES for part in file.relative_to(folder).parts):
            ignored.append(file)
            continue
        path = file.relative_to(folder).as_posix()
        matches = [pattern.fullmatch(path) for pattern in patterns]
        if not all(matches):
            unmatched.append(file)
            continue
        longest, shortest = (match.groupdict() if match else {} for match in matches)
        if longest != shortest:
            raise UserError(
                f"{file}: --layout {layout}: can be read in several ways, as {_told(longest)} or {_told(shortest)}; "
                "name all cases and arms in the description, or give --list FILE"
            )
        if file.suffix.lower() not in SUFFIXES:
            unmatched.append(file)
            continue
        case = longest.get("case") or _only_case(layout, cases)
        images.append(LocatedImage(file, case, longest["arm"], int(longest.get("seed") or 0)))
    if unmatched:
        known = "" if cases is None else f" with one of the cases {', '.join(cases)}"
        raise UserError(
            f"{unmatched[0]}: does not match --layout {layout}{known} and an image suffix ({', '.join(SUFFIXES)})"
            f"{_others(len(unmatched))}; correct the layout or the description, or remove the file"
        )
    if not images:
        raise UserError(f"{folder}: contains no images that match --layout {layout}; correct the layout")
    return LocatedImages(tuple(images), tuple(ignored))


def locate_by_list(path: Path) -> LocatedImages:
    """Return the images that a CSV or JSON-lines file lists: path (relative to the file), arm, and case, seed, prompt if given.

    Raises
    ------
    UserError
        The file can't be read, lacks a column, a row has an empty value or a seed that is not a whole number.
    """
    images = []
    for where, row in _rows(path):
        lacking = [name for name in ("path", "arm") if not str(row.get(name) or "").strip()]
        if lacking:
            raise UserError(
                f"{where}: has no {' and no '.join(lacking)}; give path, arm, and case, seed, prompt if there are any"
            )
        seed = str(row.get("seed") if row.get("seed") not in (None, "") else 0)
        if not (seed.isascii() and seed.isdigit()):
            raise UserError(f"{where}: seed {seed!r} is not a whole number of at least 0; correct it")
        prompt = row.get("prompt")
        images.append(
            LocatedImage(
                path.parent / str(row["path"]), str(row.get("case") or "all"), str(row["arm"]), int(seed),
                str(prompt) if prompt else None,
            )
        )  # fmt: skip
    if not images:
        raise UserError(f"{path}: lists no images; give a row per image with path, case, arm, seed")
    return LocatedImages(tuple(images))


def common_seeds(
    case: str, by_arm: Mapping[str, Mapping[int, object]], allowed: bool, note: Callable[[str], None]
) -> list[int]:
    """Return the seeds of a case that every arm has; those of some arms alone are left out and noted, or refused.

    Raises
    ------
    UserError
        Some images are missing and leaving out is not allowed, or no seed is common to all arms.
    """
    seeds = sorted({seed for files in by_arm.values() for seed in files})
    lacking = [(arm, seed) for arm in by_arm for seed in seeds if seed not in by_arm[arm]]
    if lacking and not allowed:
        raise UserError(
            f"{case}: {plural(len(lacking), 'image is', 'images are')} missing, the first is {lacking[0][0]}/{lacking[0][1]}; "
            "every arm needs the same seeds: add them, or leave those seeds out with --common-seeds"
        )
    gone = sorted({seed for _, seed in lacking})
    kept = [seed for seed in seeds if seed not in gone]
    if gone:
        if not kept:
            raise UserError(f"{case}: no seed has an image of every arm; add images, or leave out an arm in the description")
        without = ", ".join(f"{seed} (no {', '.join(arm for arm, missing in lacking if missing == seed)})" for seed in gone[:5])
        more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
        note(f"{case}: {plural(len(gone), 'seed')} left out, since not every arm has them: {without}{more}")
    return kept


def visible(folder: Path) -> Iterator[Path]:
    """Yield a folder's entries but for those that are left out by rule."""
    return (entry for entry in folder.iterdir() if not is_ignored(entry))


def _files(folder: Path, elsewhere: Sequence[Path]) -> Iterator[Path]:
    """Yield the files below a folder in the order of their paths, but for those elsewhere and in hidden folders."""
    apart = [path.resolve() for path in elsewhere]
    for entry in sorted(folder.iterdir()):
        if entry.resolve() in apart or (entry.is_dir() and entry.name.startswith(".")):
            continue
        if entry.is_dir():
            yield from _files(entry, elsewhere)
        else:
            yield entry


def _pattern(layout: str, cases: Sequence[str] | None, arms: Sequence[str] | None, greedy: bool) -> re.Pattern[str]:
    """Return the expression of a layout that prefers long or short values from the left."""
    parts, seen = [], set()
    for token in re.split(r"(\{[^{}]*\}|\*)", layout):
        name = token[1:-1]
        if token == "*":
            parts.append("[^/]*" if greedy else "[^/]*?")
        elif not token.startswith("{"):
            parts.append(re.escape(token))
        elif name not in FIELDS:
            raise UserError(f"--layout {layout}: has the unknown field {token}; use {{case}}, {{arm}}, {{seed}} and *")
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            seen.add(name)
            parts.append(f"(?P<{name}>{_value(name, cases, arms, greedy)})")
    if "arm" not in seen:
        raise UserError(f"--layout {layout}: has no {{arm}}, which tells the merge methods apart; add it")
    suffixed = layout.lower().endswith((*SUFFIXES, ".*"))
    return re.compile("".join(parts) + ("" if suffixed else r"\.[A-Za-z0-9]+"))


def _value(name: str, cases: Sequence[str] | None, arms: Sequence[str] | None, greedy: bool) -> str:
    known = {"case": cases, "arm": arms}.get(name)
    if name == "seed":
        return r"[0-9]+" if greedy else r"[0-9]+?"
    if known is None:
        return "[^/]+" if greedy else "[^/]+?"
    return "|".join(map(re.escape, sorted(known, key=len, reverse=greedy))) or "(?!)"


def _only_case(layout: str, cases: Sequence[str] | None) -> str:
    if cases is None:
        return "all"
    if len(cases) != 1:
        raise UserError(
            f"--layout {layout}: has no {{case}}, but {plural(len(cases), 'case is', 'cases are')} described; add {{case}}"
        )
    return cases[0]


def _rows(path: Path) -> Iterable[tuple[str, Mapping[str, object]]]:
    """Yield the rows of a CSV or JSON-lines file, each with its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}; give a CSV or JSON-lines file in UTF-8") from error
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: is not JSON ({error}); give one object per line") from error
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: is not an object; give one object per line with path, case, arm, seed")
            yield f"{path}:{number}", row
        return
    reader = csv.DictReader(text.splitlines())
    missing = {"path", "arm"} - set(reader.fieldnames or ())
    if missing:
        raise UserError(f"{path}: has no column {', '.join(sorted(missing))}; the header names path, case, arm, seed")
    for row in reader:
        yield f"{path}:{reader.line_num}", row


def _told(fields: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in fields.items())


def _others(number: int) -> str:
    return f", and {number - 1} more" if number > 1 else ""
