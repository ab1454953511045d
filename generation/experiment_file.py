"""Reads an experiment file and finds all its mistakes at once, each with its place."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from evalkit.errors import UserError, unknown
from evalkit.plural import plural
from evalkit.run.file_record import Record, mistakes
from generation.experiment import Arm, Base, Case, CasesFrom, Concept, Experiment, Sampling, find_experiment
from generation.merge.method import MergeMethod
from generation.merge.methods import MERGE_METHODS
from generation.paths import adapter_file, embeddings_file, is_remote, metric_weights, model_folder, references
from generation.pipeline import scheduler_class

SECTIONS = ("name", "like", "base", "sampling", "concepts", "arms", "cases", "cases_from", "weights")
Section = TypeVar("Section", bound=Record)
Placed = list[tuple[str, Section]]


def read_experiment(path: Path, folder: Path | None = None) -> Experiment:
    """Return the experiment in `path`; its relative paths start from `folder`, or from the file's own.

    Raises:
        UserError: something in it is wrong; the message names every mistake and its place.
    """
    raw = _sections(path, ())
    reader = _Reader(raw, path.parent if folder is None else folder)
    experiment = reader.experiment(path.stem)
    if experiment is None:
        raise UserError(f"{path}: {'; '.join(reader.problems)}")
    return experiment


def _sections(path: Path, borrowers: tuple[Path, ...]) -> dict[str, Any]:
    """Return the sections of the file, and those it leaves out from the experiment it is `like`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: is no TOML: {error}") from error
    if "like" not in raw:
        return raw
    wish = raw["like"]
    beside = path.parent / str(wish)
    try:
        other = beside if beside.is_file() else find_experiment(str(wish))[0]
    except UserError as error:
        raise UserError(f"{path}: like: {error}") from error
    if other.resolve() in (*borrowers, path.resolve()):
        raise UserError(f"{path}: like: {wish} is like this file in turn; one of the two must stand for itself")
    lent = {key: value for key, value in _sections(other, (*borrowers, path.resolve())).items() if key != "name"}
    if "cases" in raw or "cases_from" in raw:
        lent = {key: value for key, value in lent.items() if key not in ("cases", "cases_from")}
    return {**lent, **raw}


def _next_to(chosen: Sequence[Concept], concepts: Sequence[Concept], count: int) -> tuple[str, ...]:
    """Return the names of the `count` concepts that come after the last of `chosen`, round the list, without those."""
    start = concepts.index(chosen[-1]) + 1
    return tuple(concept.name for concept in (*concepts[start:], *concepts[:start]) if concept not in chosen)[:count]


def find_method(arm: Arm) -> MergeMethod:
    """Return the merge method of an arm; raise a ValueError that names the known ones if it is unknown."""
    method = MERGE_METHODS.get(arm.method)
    if method is None:
        raise unknown("no merge method", arm.method, MERGE_METHODS)
    return method


class _Reader:
    """Goes through the sections and collects mistakes, so that one doesn't hide another."""

    def __init__(self, raw: dict[str, Any], folder: Path) -> None:
        self.raw, self.folder = raw, folder
        self.problems: list[str] = []

    def experiment(self, default_name: str) -> Experiment | None:
        """Return the experiment, or None after adding to `problems`."""
        for key in self.raw:
            if key not in SECTIONS:
                self.problems.append(f"{key}: unknown key; an experiment has {', '.join(SECTIONS)}")
        base = self._record(Base, "base", self.raw.get("base"))
        sampling = self._record(Sampling, "sampling", self.raw.get("sampling"))
        concepts = self._list(Concept, "concepts")
        arms = self._list(Arm, "arms")
        cases = self._list(Case, "cases") if "cases" in self.raw else []
        if "cases_from" in self.raw:
            cases += self._cases_from([concept for _, concept in concepts])
        elif "cases" not in self.raw:
            self.problems.append("cases: missing; list [[cases]], or make them with [cases_from]")
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
        for place, records in (("concepts", concepts), ("arms", arms), ("cases", cases)):
            parts[place] = tuple(record for _, record in records)
        return self._record(Experiment, "", {"name": self.raw.get("name", default_name), **parts})

    def _record(self, kind: type[Section], place: str, raw: object) -> Section | None:
        if raw is None:
            self.problems.append(f"{place}: missing")
            return None
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            for item, line in zip(error.errors(), mistakes(error), strict=True):
                joint = "." if item["loc"] else ": "
                self.problems.append(f"{place}{joint}{line}" if place else line)
            return None

    def _list(self, kind: type[Section], place: str) -> Placed[Section]:
        raw = self.raw.get(place)
        if not isinstance(raw, list) or not raw:
            self.problems.append(f"{place}: {'missing' if raw is None else 'must be a list'}; write [[{place}]]")
            return []
        places = [f"{place}[{index}]" for index in range(len(raw))]
        found = [(where, self._record(kind, where, item)) for where, item in zip(places, raw, strict=True)]
        return [(where, record) for where, record in found if record is not None]

    def _cases_from(self, concepts: list[Concept]) -> Placed[Case]:
        source = self._record(CasesFrom, "cases_from", self.raw["cases_from"])
        if source is None:
            return []
        if source.choose > len(concepts):
            self.problems.append(f"cases_from.choose: {source.choose} cannot be chosen of {plural(len(concepts), 'concept')}")
            return []
        counts = source.merged or (source.choose,)
        if not source.choose <= min(counts) <= max(counts) <= len(concepts):
            self.problems.append(
                f"cases_from.merged: {list(counts)}: give {source.choose} to {plural(len(concepts), 'concept')}"
            )
            return []
        templates = (source.template,) if isinstance(source.template, str) else source.template
        cases: Placed[Case] = []
        for chosen, (number, template), count in product(
            combinations(concepts, source.choose), enumerate(templates, start=1), counts
        ):
            try:
                prompt = template.format(*(concept.words for concept in chosen))
            except (IndexError, KeyError, ValueError, AttributeError) as error:
                self.problems.append(
                    f"cases_from.template: {template!r} can't be filled ({error}); {source.choose} concepts are called "
                    f"{{0}} to {{{source.choose - 1}}}"
                )
                return []
            names = tuple(concept.name for concept in chosen)
            parts = [*names, *([f"p{number}"] if len(templates) > 1 else []), *([f"of{count}"] if source.merged else [])]
            raw = {
                "id": "-".join(parts),
                "concepts": names,
                "beside": _next_to(chosen, concepts, count - source.choose),
                "prompt": prompt,
                "negative_prompt": source.negative_prompt,
                "seeds": tuple(range(source.seeds)) if isinstance(source.seeds, int) else source.seeds,
            }
            place = f"cases_from({', '.join(parts)})"
            case = self._record(Case, place, raw)
            if case is not None:
                cases.append((place, case))
        return cases

    def _weights(self, raw: object) -> dict[str, str]:
        if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
            self.problems.append('weights: needs lines such as clip = "folder/clip"')
            return {}
        for name, value in raw.items():
            self._try(f"weights.{name}", lambda name=name, value=value: metric_weights(name, value, self.folder))  # type: ignore[misc]
        return dict(raw)

    def _try(self, place: str, check: Callable[[], object]) -> None:
        try:
            check()
        except ValueError as error:
            self.problems.append(f"{place}: {error}")

    def _check_names(self, field: str, placed: Iterable[tuple[str, str]]) -> None:
        seen: dict[str, str] = {}
        for place, name in placed:
            first = seen.setdefault(name.lower(), place)
            if first != place:
                self.problems.append(f"{place}.{field}: {name!r} is taken by {first}; names must differ, in more than case")

    def _check_model(self, base: Base) -> None:
        if base.model.count("/") != 1 or (self.folder / base.model).exists():
            model_folder(base, self.folder)

    def _check_concepts(self, concepts: Placed[Concept]) -> None:
        self._check_names("name", [(place, concept.name) for place, concept in concepts])
        for place, concept in concepts:
            if not is_remote(concept, self.folder):
                self._try(f"{place}.adapter", lambda concept=concept: adapter_file(concept, self.folder))  # type: ignore[misc]
            self._try(f"{place}.embeddings", lambda concept=concept: embeddings_file(concept, self.folder))  # type: ignore[misc]
            self._try(f"{place}.references", lambda concept=concept: list(references(concept, self.folder)))  # type: ignore[misc]

    def _check_cases(self, cases: Placed[Case], known: Mapping[str, Concept]) -> None:
        self._check_names("id", [(place, case.id) for place, case in cases])
        for place, case in cases:
            for name in case.merged:
                if name not in known:
                    field = "concepts" if name in case.concepts else "beside"
                    self.problems.append(f"{place}.{field}: no concept {name!r}; known: {', '.join(known) or 'none'}")
                elif name in case.concepts and known[name].words not in case.prompt:
                    self.problems.append(f"{place}.prompt: does not contain {known[name].words!r}, the words of {name}")
            for field, items in (("concepts", case.merged), ("seeds", case.seeds)):
                if len(set(items)) < len(items):
                    self.problems.append(f"{place}.{field}: {list(items)} names one of them twice")

    def _check_arms(self, arms: Placed[Arm], counts: list[int], concepts: list[Concept]) -> None:
        self._check_names("label", [(place, arm.label) for place, arm in arms])
        for place, arm in arms:
            self._try(place, lambda arm=arm: self._check_arm(arm, counts))  # type: ignore[misc]
            if arm.adapters is not None:
                found = lambda arm=arm: [adapter_file(concept, self.folder, arm.adapters) for concept in concepts]  # noqa: E731
                self._try(f"{place}.adapters", found)

    def _check_arm(self, arm: Arm, counts: list[int]) -> None:
        method = find_method(arm)
        settings = method.settings(arm.parameters)
        for count in counts:
            if method.check is not None:
                method.check(count, settings)
