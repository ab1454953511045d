"""Verified exports of several labs as runs to analyze, and their random-effects summary."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.contrast import Contrast
from analysis.database_rows import JUDGMENT_COLUMNS, SCORE_COLUMNS, ArmInfo, CaseInfo, RunData
from analysis.grouping import votes_of
from analysis.inference.meta_analysis import MetaAnalysis, meta_analysis
from analysis.transfer.tidy_vote import OVERALL
from analysis.votes.preference import preferences
from evalkit.errors import UserError
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from study_app.conduct.export_archive import read_archive
from study_app.conduct.tidy_export import tidy_votes_file
from study_app.conduct.verify import verify_export
from study_app.plan.export_tables import read_csv


@dataclass(frozen=True, slots=True)
class PooledPair:
    """The share of votes for the first of two arms in every study, and the summary."""

    first: str
    second: str
    studies: tuple[tuple[str, Contrast], ...]
    summary: MetaAnalysis | None
    """None if fewer than two studies have an estimate with an error."""


def pool_exports(paths: Sequence[Path]) -> list[PooledPair]:
    """Return the summary of every pair of arms over exports, each verified first.

    Raises:
        UserError: an export is not sound, two are one study, or an arm is another method in another study.
    """
    data: dict[str, RunData] = {}
    chains: dict[str, Path] = {}
    for path in paths:
        chain = verify_export(path).chain
        if chain in chains:
            raise UserError(f"{path}: is the same study as {chains[chain]}; give each study once")
        chains[chain] = path
        data[str(path)] = run_data(path)
    labels = _common_arms(data)
    pairs: dict[tuple[str, str], list[tuple[str, Contrast]]] = {}
    for name, run in data.items():
        for each in preferences(votes_of(run)):
            first, second = sorted((each.first, each.second), key=labels.index)
            contrast = each.clustered if each.first == first else _turned(each.clustered)
            pairs.setdefault((first, second), []).append((name, contrast))
    return [PooledPair(first, second, tuple(studies), _summary(studies)) for (first, second), studies in pairs.items()]


def run_data(path: Path) -> RunData:
    """Return what an export holds, without excluded, surplus and simulated votes if people voted."""
    files, _ = read_archive(path)
    manifest = json.loads(files[MANIFEST_NAME])
    rows = read_csv(tidy_votes_file(files, files[MANIFEST_NAME]))
    if rows and "rank" in rows[0]:
        raise UserError(f"{path}: has votes on more than two images at once, which are not pooled; give studies of pairs")
    counted = [row for row in rows if row["question"] == OVERALL and not {"excluded", "surplus"} & set(row["flags"].split("+"))]
    people = [row for row in counted if "simulated" not in row["flags"].split("+")]
    votes = people or counted
    labels = [arm["label"] for arm in manifest["arms"]]
    judgments = pd.DataFrame([_judgment(row, labels) for row in votes], columns=list(JUDGMENT_COLUMNS))
    return RunData(
        name=manifest["name"], experiment_sha256=manifest["experiment_sha256"], source=manifest["source"],
        arms=tuple(map(_arm, manifest["arms"])),
        cases=tuple(CaseInfo(case["id"], case["prompt"], tuple(case["concepts"])) for case in manifest["cases"]),
        references={}, images={}, judgments=judgments, scores=pd.DataFrame(columns=list(SCORE_COLUMNS)),
        planned=0, target=0, simulated=0 if people else len(votes), real=len(people), surplus=0,
        simulated_left_out=len(counted) - len(votes), design={},
    )  # fmt: skip


def _arm(arm: dict[str, Any]) -> ArmInfo:
    return ArmInfo(arm["label"], arm["method"], json.dumps(arm["parameters"], sort_keys=True))


def _judgment(row: dict[str, str], labels: list[str]) -> tuple[Any, ...]:
    left, right, chosen = row["arm_left"], row["arm_right"], row["chosen_arm"]
    first, second = sorted((left, right), key=labels.index)
    choice = 0.5 if chosen not in (left, right) else float(chosen == first)
    key = f"{row['case']} {row['seed']} {first} {second}"
    response = int(row["response_ms"]) if row["response_ms"] else None
    return key, row["case"], int(row["seed"]), first, second, row["participant"], left, choice, response


def _common_arms(data: dict[str, RunData]) -> list[str]:
    """Return all arms in the order of the studies; raise UserError if two methods share a label."""
    known: dict[str, tuple[ArmInfo, str]] = {}
    for name, run in data.items():
        for arm in run.arms:
            earlier, where = known.setdefault(arm.label, (arm, name))
            if earlier != arm:
                raise UserError(
                    f"{name}: arm {arm.label!r} is {arm.method} {arm.parameters}, but {earlier.method} {earlier.parameters} in "
                    f"{where}; pool studies of the same arms"
                )
    return list(known)


def _turned(contrast: Contrast) -> Contrast:
    estimate = None if contrast.estimate is None else 1.0 - contrast.estimate
    interval = None if contrast.interval is None else (1.0 - contrast.interval[1], 1.0 - contrast.interval[0])
    return replace(contrast, first=contrast.second, second=contrast.first, estimate=estimate, interval=interval)


def _summary(studies: Sequence[tuple[str, Contrast]]) -> MetaAnalysis | None:
    known = [
        (contrast.estimate, contrast.standard_error)
        for _, contrast in studies
        if contrast.estimate is not None and contrast.standard_error
    ]
    if len(known) < 2:
        return None
    return meta_analysis([estimate for estimate, _ in known], [error for _, error in known], null=0.5)
