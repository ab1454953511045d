"""Printed titles of arms, concepts and metrics, and the wording of the question; ids stay what data refer to."""

import tomllib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from analysis.questions.question_kind import base_name
from evalkit.errors import UserError
from evalkit.run.file_record import Record, first_mistake

if TYPE_CHECKING:
    import pandas as pd

    from analysis.database_rows import RunData

FILE_NAME = "titles.toml"
# as papers print them; any other metric is printed in capitals with hyphens
SYMBOLS = {
    "pickscore": "PickScore", "hpsv2": "HPSv2", "dinov2": "DINOv2", "tres": "TReS", "entropy": "Entropy",
    "dbcnn": "DBCNN", "arm_similarity": "CLIP-I between arms", "arm_dino": "DINO between arms", "arm_psnr": "PSNR",
    "arm_ssim": "SSIM", "arm_lpips": "LPIPS", "diversity_clip": "CLIP diversity", "diversity_dino": "DINO diversity",
    "diversity_lpips": "LPIPS diversity", "diversity_vendi": "Vendi",
}  # fmt: skip


class TitlesFile(Record):
    """Content of `RUN/titles.toml`: titles by id. The file is not part of the run's identity, so it can be added later."""

    arms: dict[str, str] = Field(default_factory=dict)
    concepts: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, str] = Field(default_factory=dict)
    # `overall`: the wording of the question that is analyzed
    questions: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Titles:
    """Titles by id; an id without a title is its own title."""

    arms: Mapping[str, str] = field(default_factory=dict)
    concepts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)

    def ids(self, text: object) -> object:
        """Return the id of a printed title; anything else as it is."""
        for titles in (self.arms, self.metrics, self.concepts):
            for key, title in titles.items():
                if title == text:
                    return key
        # one metric under several signatures: `CLIP-I (2)`
        if isinstance(text, str) and text.endswith(")") and " (" in text:
            name, _, number = text.rpartition(" (")
            known = {title: key for key, title in self.metrics.items()}
            return f"{known[name]} ({number}" if name in known else text
        return text

    def with_ids(self, records: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
        """Return records whose arms, concepts, metrics, measures and units are ids again."""
        return [{key: self._with_id(key, value) for key, value in record.items()} for record in records]

    def _with_id(self, key: str, value: object) -> object:
        if key in ("first", "second", "arm", "other_arm", "metric", "measure", "concept"):
            return self.ids(value)
        if key == "arms" and isinstance(value, tuple):
            return tuple(self.ids(name) for name in value)
        if key in ("scale", "unit") and isinstance(value, str):
            # of metrics: `mean CLIP-I`, `difference in CLIP-I`
            lead = next((lead for lead in ("mean ", "difference in ") if value.startswith(lead)), "")
            return f"{lead}{self.ids(value.removeprefix(lead))}" if lead else value
        return value


def symbol_of(metric: str) -> str:
    """Return the symbol of a metric as papers print it.

    >>> symbol_of("clip_i"), symbol_of("tres"), symbol_of("my_metric")
    ('CLIP-I', 'TReS', 'MY-METRIC')
    """
    return SYMBOLS.get(metric, metric.upper().replace("_", "-"))


def read_titles(run: Path, data: "RunData") -> Titles:
    """Return the titles of a run: those of `RUN/titles.toml`, and symbols for its metrics.

    Raises:
        UserError: the file cannot be read, names something that the run does not have, or gives two things one title.
    """
    file = run / FILE_NAME
    content = TitlesFile()
    if file.exists():
        try:
            content = TitlesFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f'{file}: cannot be read ({error}); write titles as `id = "title"` below [arms]') from error
        except ValidationError as error:
            raise UserError(f"{file}: {first_mistake(error)}; use the tables arms, concepts, metrics and questions") from error
    metrics = [str(name) for name in dict.fromkeys(data.scores["metric"])]
    known = {
        "arms": list(data.labels),
        "concepts": list(dict.fromkeys(name for case in data.cases for name in case.concepts)),
        "metrics": metrics,
        "questions": list(dict.fromkeys(["overall", *map(base_name, data.answers["question"])])),
    }
    for table, ids in known.items():
        _check(file, table, getattr(content, table), ids)
    symbols = {name: symbol_of(name) for name in metrics} | content.metrics
    return Titles(content.arms, content.concepts, symbols, content.questions)


def titled(data: "RunData", titles: Titles) -> "RunData":
    """Return the run with titles in place of ids, for everything that is printed."""
    arms, concepts = _table(titles.arms, data.labels), titles.concepts

    def renamed(frame: "pd.DataFrame", columns: Iterable[str], names: Mapping[str, str]) -> "pd.DataFrame":
        given = [column for column in columns if column in frame]
        return frame.assign(**{column: frame[column].map(lambda value: names.get(value, value)) for column in given})

    def all_arms(value: Iterable[str]) -> tuple[str, ...]:
        return tuple(arms.get(arm, arm) for arm in value)

    several = data.several
    if not several.empty:
        several = several.assign(order=several["order"].map(all_arms), offered=several["offered"].map(all_arms))
    scores = renamed(data.scores, ("arm", "other_arm"), arms)
    scores = renamed(renamed(scores, ("concept",), concepts), ("metric",), titles.metrics)
    answers = data.answers
    if not answers.empty:
        answers = answers.assign(shown=answers["shown"].map(all_arms))
    return replace(
        data,
        answers=answers,
        arms=tuple(replace(arm, label=arms[arm.label]) for arm in data.arms),
        cases=tuple(replace(case, concepts=tuple(concepts.get(name, name) for name in case.concepts)) for case in data.cases),
        references={concepts.get(name, name): paths for name, paths in data.references.items()},
        images={(case, arms[arm], seed): path for (case, arm, seed), path in data.images.items()},
        judgments=renamed(data.judgments, ("first", "second", "left"), arms),
        machine_judgments=renamed(data.machine_judgments, ("first", "second"), arms),
        several=several,
        scores=scores,
    )


def _table(titles: Mapping[str, str], ids: Iterable[str]) -> dict[str, str]:
    return {name: titles.get(name, name) for name in ids}


def _check(file: Path, table: str, titles: Mapping[str, str], ids: list[str]) -> None:
    unknown = [name for name in titles if name not in ids]
    if unknown:
        raise UserError(f"{file}: {table}.{unknown[0]}: is not in the run; it has {', '.join(ids) or 'none'}")
    printed = _table(titles, ids)
    seen: dict[Hashable, str] = {}
    for name, title in printed.items():
        if not title.strip() or title != title.strip() or "\n" in title:
            raise UserError(f"{file}: {table}.{name}: {title!r} is not a title; give one line of text without spaces around it")
        if title in seen:
            raise UserError(f"{file}: {table}.{name}: {title!r} is the title of {seen[title]} too; give each its own")
        seen[title] = name
