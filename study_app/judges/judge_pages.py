"""What a judge is shown of each comparison: the blinded files, questions and words that people get, without their padding."""

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from db.models import CaseConcept, Comparison, Study
from db.session import Database, read
from evalkit.errors import UserError, unknown
from evalkit.io import image_reader as pixels
from study_app.judges.judge_types import JudgePage
from study_app.plan.blinding import Blinding, encode
from study_app.plan.design import Design
from study_app.plan.texts import ALSO_ASK, EACH_CONCEPT
from study_app.plan.wording import sentences_of
from study_app.service.stimuli import of_comparison
from study_app.service.view_models import letter

OVERALL = "overall"
# what hosted endpoints take
LARGEST_IMAGE = 20_000_000
LARGEST_REQUEST = 50_000_000


@dataclass(frozen=True, order=True)
class CallKey:
    """One question about one comparison in one order; the two orders are neighbours in every list."""

    comparison_id: int
    question: str
    repetition: int
    swapped: int


@dataclass
class JudgePages:
    """The pages of a study, read once per comparison and question."""

    database: Database
    run: Path
    study: Study
    longest_side: int | None = None
    _pages: dict[tuple[int, str], JudgePage] = field(default_factory=dict, repr=False)
    _files: dict[Path, bytes] = field(default_factory=dict, repr=False)

    def page(self, comparison_id: int, question: str) -> JudgePage:
        """Return the page of a comparison and question; only the latest are remembered."""
        key = (comparison_id, question)
        page = self._pages.get(key)
        if page is None:
            page = self._read(comparison_id, question)
            if len(self._pages) > 64:
                self._pages.clear()
            self._pages[key] = page
        return page

    def _read(self, comparison_id: int, question: str) -> JudgePage:
        design = Design.of(self.study)
        with read(self.database) as session:
            # the number of the participant is part of URLs alone, and a judge gets none
            shown = of_comparison(session, 0, comparison_id, (0, 1))
        blinding = Blinding(self.run)
        data = {
            stimulus.slot: self._bytes(blinding.path(stimulus.kind, stimulus.sha256), stimulus.kind == "reference")
            for stimulus in shown.stimuli
        }
        references = tuple(
            tuple(content for slot, content in data.items() if slot.startswith(f"reference {number} "))
            for number in range(len(shown.words))
        )
        if sum(map(len, data.values())) * 4 / 3 > LARGEST_REQUEST:
            raise UserError(f"comparison {comparison_id}: its images exceed 50 MB in one request; reduce --longest-side")
        return JudgePage(
            _sentence(self.study, design.language, question, len(shown.words)), shown.words, references,
            (data[shown.places[0]], data[shown.places[1]]), design.cannot_tell,
        )  # fmt: skip

    def _bytes(self, path: Path, remember: bool) -> bytes:
        if path in self._files:
            return self._files[path]
        data = pixels.read_bytes(path)
        if self.longest_side is not None and max(png_size(data)) > self.longest_side:
            data = encode(data, "image", self.longest_side)
        if len(data) > LARGEST_IMAGE:
            raise UserError("--longest-side: an image of the study exceeds the 20 MB that endpoints take; give 1024, say")
        if remember:
            self._files[path] = data
        return data


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels of a PNG file."""
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


def calls_of(
    database: Database, study: Study, questions: Iterable[str] | None, subset: int | None, repetitions: int
) -> list[CallKey]:
    """Return what a judge is asked, in a seeded order that is the same for every judge.

    Args:
        database: holds the comparisons.
        study: the study.
        questions: names as in `also_ask`, `overall` for the first one; None for all that the study asks about pairs.
        subset: so many comparisons; None for all.
        repetitions: how often each order is asked.

    Raises:
        UserError: the study compares more than two images at once, or does not ask a question.
    """
    design = Design.of(study)
    if design.at_once > 2:
        raise UserError(f"study.toml: at_once = {design.at_once}; a judge compares two images, so it cannot answer this study")
    asked = [OVERALL, *(name for name in design.also_ask if name in ALSO_ASK)]
    names = asked if questions is None else list(dict.fromkeys(questions))
    for name in names:
        if name not in asked:
            raise unknown("--questions: the study asks no pairwise question", name, asked)
    with read(database) as session:
        counts = session.execute(select(CaseConcept.case_id, func.count()).group_by(CaseConcept.case_id))
        concepts: dict[int, int] = {case: count for case, count in counts}
        rows = session.execute(
            select(Comparison.id, Comparison.case_id).where(Comparison.study_id == study.id).order_by(Comparison.id)
        ).all()
    comparisons = [(row.id, row.case_id) for row in rows]
    random.Random(f"judge {study.seed}").shuffle(comparisons)
    return [
        CallKey(comparison, question, repetition, swapped)
        for comparison, case in comparisons[:subset]
        for question in _expanded(names, concepts.get(case, 0))
        for repetition in range(repetitions)
        for swapped in (0, 1)
    ]


def _expanded(names: Sequence[str], concepts: int) -> list[str]:
    expanded: list[str] = []
    for name in names:
        expanded += [f"concept {number}" for number in range(concepts)] if name == EACH_CONCEPT else [name]
    return expanded


def _sentence(study: Study, language: str, question: str, concepts: int) -> str:
    """Return the sentence that people read above the images."""
    asked = sentences_of(study, language).questions.pair
    if question == OVERALL:
        return asked.of(concepts)
    if question.startswith("concept "):
        return asked.concept.format(letter=letter(int(question.removeprefix("concept "))))
    return asked.further(question)
