"""Images to read and the models that should see them; what extraction took, and what failed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from evalkit.io.image_reader import Pixels
from evalkit.plural import plural
from evalkit.scoring.joint_keys import Texts
from evalkit.scoring.pixel_pairs import Partners


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """An image to read: its sha256, how messages call it, and the models that should see it.

    `partners` lists for each model that sees two pictures at once which others it should compare this one with,
    `texts` for each model that sees a picture together with texts which texts these are.
    """

    key: str
    name: str
    load: Callable[[], Pixels]
    models: tuple[str, ...]
    partners: Mapping[str, Partners] = field(default_factory=dict)
    texts: Mapping[str, tuple[Texts, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoringProblem:
    """An image without some of its scores, and why. `model` is empty if it concerns all of them."""

    name: str
    key: str
    model: str
    reason: str


@dataclass
class ExtractionCounts:
    """What it took: decoded images, forward passes and features found per model; problems; what was done to images."""

    decodes: int = 0
    forwards: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    problems: list[ScoringProblem] = field(default_factory=list)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def told(self) -> list[str]:
        """Return what was done to images, a line for each kind; of many, the first is named."""
        names: dict[str, list[str]] = {}
        for name in sorted(self.notes):
            for note in self.notes[name]:
                names.setdefault(note, []).append(name)
        return [
            f"{among[0]}: {note}" if len(among) == 1 else f"{plural(len(among), 'image')}: {note}; the first is {among[0]}"
            for note, among in names.items()
        ]

    def failed(self, model: str) -> frozenset[str]:
        """Return the sha256 of the images that have no features of a model, for a reason that is among the problems."""
        return frozenset(problem.key for problem in self.problems if problem.model in ("", model))

    def add(self, other: "ExtractionCounts") -> None:
        """Take in what another took; what was found there was found here before."""
        self.decodes += other.decodes
        for name, count in other.forwards.items():
            self.forwards[name] += count
        self.problems.extend(other.problems)
        self.notes.update(other.notes)
