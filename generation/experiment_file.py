"""Reader of experiment files; it reports all mistakes at once, each with its location."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from evalkit.errors import UserError, unknown
from evalkit.plural import plural
from evalkit.run.file_record import Record, mistakes
from generation.experiment import (
    ArmSpec,
    BaseSpec,
    CaseGrid,
    CaseSpec,
    ConceptSpec,
    Experiment,
    SamplingSpec,
    find_experiment,
)
from generation.merge.method import MergeMethod
from generation.merge.methods import MERGE_METHODS
from generation.paths import adapter_file, embeddings_file, is_remote, metric_weights, model_folder, references
from generation.pipeline import scheduler_class

SECTIONS = ("name", "like", "base", "sampling", "concepts", "arms", "cases", "cases_from", "weights")
Section = TypeVar("Section", bound=Record)
Located = list[tuple[str, Section]]


def read_experiment(path: Path, folder: Path | None = None) -> Experiment:
    """Return the experiment in `path`; its relative paths start from `folder`, or from the file's own.

    Raises:
        UserError: the file is not valid; the message names every mistake and its location.
    """
    raw = _sections(path, ())
    reader = _ExperimentReader(raw, path.parent if folder is None else folder)
    experiment = reader.experiment(path.stem)
    if experiment is None:
        raise UserError(f"{path}: {'; '.join(reader.problems)}")
    return experiment


def _sections(path: Path, borrowers: tuple[Path, ...]) -> dict[str, Any]:
    """Return the sections of the file; missing ones are taken from the experiment that it is `like`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a readable text file ({error}); give a TOML file in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: is not a TOML file ({error}); correct the line") from error
    if "like" not in raw:
        return raw
    wish = raw["like"]
    neighbour = path.parent / str(wish)
    try:
        other = neighbour if neighbour.is_file() else find_experiment(str(wish))[0]
    except UserError as error:
        raise UserError(f"{path}: like: {error}") from error
    if other.resolve() in (*borrowers, path.resolve()):
        raise UserError(f"{path}: like: {wish} refers back to this file; remove `like` from one of the two")
    inherited = {key: value for key, value in _sections(other, (*borrowers, path.resolve())).items() if key != "name"}
    if "cases" in raw or "cases_from" in raw:
        inherited = {key: value for key, value in inherited.items() if key not in ("cases", "cases_from")}
    return {**inherited, **raw}


def _following(chosen: Sequence[ConceptSpec], concepts: Sequence[ConceptSpec], count: int) -> tuple[str, ...]:
    """Return the names of the `count` concepts that follow the last of `chosen` in the list, which wraps around."""
    start = concepts.index(chosen[-1]) + 1
    return tuple(concept.name for concept in (*concepts[start:], *concepts[:start]) if concept not in chosen)[:count]


def find_method(arm: ArmSpec) -> MergeMethod:
    """Return the merge method of an arm; raise a ValueError with the known names if it does not exist."""
    method = MERGE_METHODS.get(arm.method)
    if method is None:
        raise unknown("no merge method", arm.method, MERGE_METHODS)
    return method


class _ExperimentReader:
    """Reads the sections one by one and collects all mistakes in `problems`."""

    def __init__(self, raw: dict[str, Any], folder: Path) -> None:
        self.raw, self.folder = raw, folder
        self.problems: list[str] = []

    def experiment(self, default_name: str) -> Experiment | None:
        """Return the experiment, or None if there are `problems`."""
        for key in self.raw:
            if key not in SECTIONS:
                self.problems.append(f"{key}: unknown key; an experiment has {', '.join(SECTIONS)}")
        base = self._record(BaseSpec, "base", self.raw.get("base"))
        sampling = self._record(SamplingSpec, "sampling", self.raw.get("sampling"))
        concepts = self._list(ConceptSpec, "concepts")
        arms = self._list(ArmSpec, "arms")
        cases = self._list(CaseSpec, "cases") if "cases" in self.raw else []
        if "cases_from" in self.raw:
            cases += self._cases_from([concept for _, concept in concepts])
        elif "cases" not in self.raw:
            self.problems.append("cases: missing; write [[cases]] or [cases_from]")
        if base is not None:
            self._try("base.model", lambda: self._check_model(base))
            self._try("base.scheduler", lambda: base.scheduler is None or scheduler_class(base.scheduler))
        self._check_concepts(concepts)
        self._check_cases(cases, {concept.name: concept for _, concept in concepts})
        self._check_arms(arms, sorted({len(case.merged) for _, case in cases}), [concept for _, concept in concepts])
        weights = self._weights(self.raw.get("weights", {}))
        if self.problems:
            return None
        parts: dict[str, object] = {"base": base, "sampling": sampling, "weights": weights}
        for section, records in (("concepts", concepts), ("arms", arms), ("cases", cases)):
            parts[section] = tuple(record for _, record in records)
        return self._record(Experiment, "", {"name": self.raw.get("name", default_name), **parts})

    def _record(self, kind: type[Section], location: str, raw: object) -> Section | None:
        if raw is None:
            self.problems.append(f"{location}: missing")
            return None
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            self.problems.extend(mistakes(error, within=location))
            return None

    def _list(self, kind: type[Section], location: str) -> Located[Section]:
        raw = self.raw.get(location)
        if not isinstance(raw, list) or not raw:
            self.problems.append(f"{location}: {'missing' if raw is None else 'must be a list'}; write [[{location}]]")
            return []
        locations = [f"{location}[{index}]" for index in range(len(raw))]
        records = [(path, self._record(kind, path, item)) for path, item in zip(locations, raw, strict=True)]
        return [(path, record) for path, record in records if record is not None]

    def _cases_from(self, concepts: list[ConceptSpec]) -> Located[CaseSpec]:
        source = self._record(CaseGrid, "cases_from", self.raw["cases_from"])
        if source is None:
            return []
        if source.choose > len(concepts):
            self.problems.append(
                f"cases_from.choose: {source.choose} is more than the {len(concepts)} concepts there are; choose fewer"
            )
            return []
        counts = source.merged or (source.choose,)
        if not source.choose <= min(counts) <= max(counts) <= len(concepts):
            self.problems.append(
                f"cases_from.merged: {list(counts)}: give {source.choose} to {plural(len(concepts), 'concept')}"
            )
            return []
        templates = (source.template,) if isinstance(source.template, str) else source.template
        cases: Located[CaseSpec] = []
        for chosen, (number, template), count in product(
            combinations(concepts, source.choose), enumerate(templates, start=1), counts
        ):
            try:
                prompt = template.format(*(concept.words for concept in chosen))
            except (IndexError, KeyError, ValueError, AttributeError) as error:
                self.problems.append(
                    f"cases_from.template: {template!r} is not a valid template ({error}); its {source.choose} concepts are "
                    f"{{0}} to {{{source.choose - 1}}}"
                )
                return []
            names = tuple(concept.name for concept in chosen)
            parts = [*names, *([f"p{number}"] if len(templates) > 1 else []), *([f"of{count}"] if source.merged else [])]
            raw = {
                "id": "-".join(parts),
                "concepts": names,
                "beside": _following(chosen, concepts, count - source.choose),
                "prompt": prompt,
                "negative_prompt": source.negative_prompt,
                "seeds": tuple(range(source.seeds)) if isinstance(source.seeds, int) else source.seeds,
            }
            location = f"cases_from({', '.join(parts)})"
            case = self._record(CaseSpec, location, raw)
            if case is not None:
                cases.append((location, case))
        return cases

    def _weights(self, raw: object) -> dict[str, str]:
        if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
            self.problems.append('weights: needs lines such as clip = "folder/clip"')
            return {}
        for name, value in raw.items():
            self._try(f"weights.{name}", lambda name=name, value=value: metric_weights(name, value, self.folder))  # type: ignore[misc]
        return dict(raw)

    def _try(self, location: str, check: Callable[[], object]) -> None:
        try:
            check()
        except ValueError as error:
            self.problems.append(f"{location}: {error}")

    def _check_names(self, field: str, located: Iterable[tuple[str, str]]) -> None:
        seen: dict[str, str] = {}
        for location, name in located:
            first = seen.setdefault(name.lower(), location)
            if first != location:
                self.problems.append(
                    f"{location}.{field}: {name!r} is also the name of {first}; choose names that differ in more than case"
                )

    def _check_model(self, base: BaseSpec) -> None:
        if base.model.count("/") != 1 or (self.folder / base.model).exists():
            model_folder(base, self.folder)

    def _check_concepts(self, concepts: Located[ConceptSpec]) -> None:
        self._check_names("name", [(location, concept.name) for location, concept in concepts])
        for location, concept in concepts:
            if not is_remote(concept, self.folder):
                self._try(f"{location}.adapter", lambda concept=concept: adapter_file(concept, self.folder))  # type: ignore[misc]
            self._try(f"{location}.embeddings", lambda concept=concept: embeddings_file(concept, self.folder))  # type: ignore[misc]
            self._try(f"{location}.references", lambda concept=concept: list(references(concept, self.folder)))  # type: ignore[misc]

    def _check_cases(self, cases: Located[CaseSpec], known: Mapping[str, ConceptSpec]) -> None:
        self._check_names("id", [(location, case.id) for location, case in cases])
        for location, case in cases:
            for name in case.merged:
                if name not in known:
                    field = "concepts" if name in case.concepts else "beside"
                    self.problems.append(f"{location}.{field}: no concept {name!r}; known: {', '.join(known) or 'none'}")
                elif name in case.concepts and known[name].words not in case.prompt:
                    self.problems.append(f"{location}.prompt: does not contain {known[name].words!r}, the words of {name}")
            for field, items in (("concepts", case.merged), ("seeds", case.seeds)):
                if len(set(items)) < len(items):
                    self.problems.append(f"{location}.{field}: {list(items)} contains one of them twice; remove it")

    def _check_arms(self, arms: Located[ArmSpec], counts: list[int], concepts: list[ConceptSpec]) -> None:
        self._check_names("label", [(location, arm.label) for location, arm in arms])
        for location, arm in arms:
            self._try(location, lambda arm=arm: self._check_arm(arm, counts))  # type: ignore[misc]
            for name in set(arm.weights) - {concept.name for concept in concepts}:
                self.problems.append(f"{location}.weights: {name!r} is not a concept of this file; name one of [[concepts]]")
            if arm.adapters is not None:
                files = lambda arm=arm: [adapter_file(concept, self.folder, arm.adapters) for concept in concepts]  # noqa: E731
                self._try(f"{location}.adapters", files)

    def _check_arm(self, arm: ArmSpec, counts: list[int]) -> None:
        method = find_method(arm)
        settings = method.settings(arm.parameters)
        for count in counts:
            if method.check is not None:
                method.check(count, settings)
