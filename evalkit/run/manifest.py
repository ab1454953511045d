"""The manifest: what a run holds, image by image, each bound to its bytes by sha256."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError, ValidationInfo, field_validator

from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.io.json_stream import BROKEN, around, items
from evalkit.plural import plural
from evalkit.run.file_record import Name, Record, Seed, Sha256, first_mistake
from evalkit.run.image_records import Cell, ImageFile, ImageRecord, ImageRecords

FORMAT: Literal[1] = 1
FILE_NAME = "manifest.json"


class Concept(Record):
    """What a LoRA was trained on."""

    name: Name
    # the concept's words in a prompt, modifier token included: "<c1> star"
    words: str
    # the same without the modifier token: "star"; what alignment metrics read
    class_word: str
    references: tuple[ImageFile, ...] = ()
    adapter_sha256: Sha256 | None = None


class Arm(Record):
    """A merge method with its parameters fixed. `method` is free text for images made elsewhere."""

    label: Name
    method: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class Case(Record):
    """One question put to every arm: concepts and prompt."""

    id: Name
    concepts: tuple[Name, ...]
    # merged too, though the prompt does not ask for them
    beside: tuple[Name, ...] = Field(default=(), exclude_if=lambda names: not names)
    prompt: str
    # the prompt without the concepts' modifier tokens; what alignment metrics read
    plain_prompt: str
    negative_prompt: str | None = None
    seeds: tuple[Seed, ...]

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed occurs twice")
        return seeds


class Manifest(Record):
    """All a run holds. ImageRecords are sorted by case, arm and seed in the order of `cases` and `arms`."""

    format: Literal[1] = FORMAT
    name: str
    # what the run is of: sha256 of the resolved experiment, or of the import's description
    experiment_sha256: Sha256
    # `votes`: made from votes alone, so there are no images
    source: Literal["generated", "imported", "votes"]
    concepts: tuple[Concept, ...]
    arms: tuple[Arm, ...] = Field(min_length=1)
    cases: tuple[Case, ...] = Field(min_length=1)
    images: ImageRecords = ImageRecords()

    @field_validator("concepts", "arms", "cases")
    @classmethod
    def _names_differ(cls, named: tuple[Concept | Arm | Case, ...]) -> tuple[Concept | Arm | Case, ...]:
        names = [one.label if isinstance(one, Arm) else one.id if isinstance(one, Case) else one.name for one in named]
        twice = {name for name, times in Counter(names).items() if times > 1}
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} occur(s) twice; names must differ")
        # two names that differ in case alone would share a folder on some systems
        if len({name.lower() for name in names}) < len(names):
            raise ValueError("names must differ by more than upper and lower case")
        return named

    @field_validator("cases")
    @classmethod
    def _concepts_are_known(cls, cases: tuple[Case, ...], others: ValidationInfo) -> tuple[Case, ...]:
        if "concepts" not in others.data:  # they have a separate mistake
            return cases
        known = {concept.name for concept in others.data["concepts"]}
        for case in cases:
            for name in case.concepts + case.beside:
                if name not in known:
                    raise ValueError(f"{case.id}: no concept {name!r}; known: {', '.join(sorted(known))}")
        return cases

    @field_validator("images")
    @classmethod
    def _in_order(cls, images: ImageRecords, others: ValidationInfo) -> ImageRecords:
        """Return the images sorted; raise a ValueError if one occurs twice or does not belong to the run."""
        if not {"arms", "cases"} <= others.data.keys():  # they have a separate mistake
            return images
        coming = _cells(others.data["cases"], others.data["arms"])
        if all(image.cell in coming for image in images):
            return images
        order = {cell: position for position, cell in enumerate(_cells(others.data["cases"], others.data["arms"]))}
        seen: set[Cell] = set()
        for image in images:
            if image.cell not in order:
                raise ValueError(f"{image.path} belongs to no case x arm x seed of this run")
            if image.cell in seen:
                raise ValueError(f"{image.path}: its case, arm and seed occur twice")
            seen.add(image.cell)
        return ImageRecords(sorted(images, key=lambda image: order[image.cell]))

    def expected(self) -> Iterator[Cell]:
        """Yield every case, arm, seed the run should hold, in order."""
        return _cells(self.cases, self.arms)

    def missing(self) -> tuple[Cell, ...]:
        """Return the cells that have no image yet."""
        present = (image.cell for image in self.images)
        next_one = next(present, None)
        missing = []
        for cell in self.expected():
            if cell == next_one:
                next_one = next(present, None)
            else:
                missing.append(cell)
        return tuple(missing)

    def by_case(self) -> Iterator[tuple[Case, list[ImageRecord]]]:
        """Yield every case with its images, which are made as they are asked for."""
        groups = groupby(self.images, key=lambda image: image.case)
        next_one = next(groups, None)
        for case in self.cases:
            if next_one and next_one[0] == case.id:
                yield case, list(next_one[1])
                next_one = next(groups, None)
            else:
                yield case, []

    def concept(self, name: str) -> Concept:
        """Return the concept called `name`."""
        return next(concept for concept in self.concepts if concept.name == name)

    def case(self, identifier: str) -> Case:
        """Return the case called `identifier`."""
        return next(case for case in self.cases if case.id == identifier)

    def save(self, run: Path) -> None:
        """Write the manifest into the run folder, whole or not at all."""
        write_atomic(run / FILE_NAME, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, run: Path) -> "Manifest":
        """Return the manifest of a run folder.

        Raises:
            UserError: it is missing, or is not a manifest.
        """
        path = run / FILE_NAME
        try:
            try:
                whole = around(path, "images")
                if whole["images"] == []:
                    whole["images"] = ImageRecords(map(ImageRecord.model_validate, items(path, "images")))
                return cls.model_validate(whole)
            except (BROKEN, ValidationError, LookupError, TypeError):
                # reading the whole file reports where its mistake is
                text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(
                f"{run}: contains no {FILE_NAME}; make the run with `evalkit generate EXPERIMENT.toml --run {run}` "
                f"or `evalkit import FOLDER --run {run}`"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: can't be read: {error}; restore the file, or make the run again") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(f"{path}: {first_mistake(error)}") from error

    def complete(self, run: Path) -> "Manifest":
        """Return the manifest itself where every cell has its image; raise a UserError that names what lacks."""
        if self.source == "votes":
            raise UserError(f"{run}: was made from votes alone and has no images; give a run with images")
        missing = self.missing()
        if missing:
            case, arm, seed = missing[0]
            raise UserError(
                f"{run}: {plural(len(missing), 'image is', 'images are')} missing, the first is "
                f"case {case}, arm {arm}, seed {seed}; finish the run with the command that began it"
            )
        return self


def _cells(cases: Iterable[Case], arms: Sequence[Arm]) -> Iterator[Cell]:
    return ((case.id, arm.label, seed) for case in cases for arm in arms for seed in case.seeds)


class ImageIndex:
    """Position of the image of each cell among the images of a complete manifest."""

    def __init__(self, manifest: Manifest) -> None:
        """Count images case by case."""
        self._arms = {arm.label: index for index, arm in enumerate(manifest.arms)}
        self._cases: dict[str, tuple[int, tuple[int, ...]]] = {}
        first = 0
        for case in manifest.cases:
            self._cases[case.id] = (first, case.seeds)
            first += len(self._arms) * len(case.seeds)

    def find(self, cell: Cell) -> int | None:
        """Return the position of a cell's image; None if the manifest has no such cell."""
        case, arm, seed = cell
        first, seeds = self._cases.get(case, (0, ()))
        if arm not in self._arms or seed not in seeds:
            return None
        return first + self._arms[arm] * len(seeds) + seeds.index(seed)
