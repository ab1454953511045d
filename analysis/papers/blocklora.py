"""Tables 1, 2 and 3 and Figure 5 of BlockLoRA, as printed and with uncertainty.

Run it as `evalkit paper blocklora RUN [FOLDER]`. Copy it for your own design.
"""

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.inference.concept_sets import ConceptSets, codes_of
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.inference.shares import Share
from analysis.metrics.concept_count import by_concepts
from analysis.metrics.paired import Measured, measure
from analysis.number_format import ABSENT, count, number, percent
from analysis.papers.script import main
from analysis.report.concept_count import by_concepts_plot, by_concepts_table
from analysis.report.figure_style import ReportFigure
from analysis.report.method_tables import MetricColumn, average, method_tables, named_columns
from analysis.report.table import Column, ReportTable, TableCell
from analysis.report.table_cells import arm_cell, error_words, plain_cell, share_cell, word_cell
from evalkit.run.manifest import Manifest

ALIGNMENT = {"clip_i": "Image Align", "clip_t": "Text Align"}
# The paper's measure of identity, and the one that best separates similar concepts, with the names of their tables.
IDENTITY = {"clip_i": "blocklora_figure5", "dino": "blocklora_figure5_dino"}
# Methods that train or fit something after the LoRAs are there; all others merge instantly.
POST_TRAINING = ("gradient_fusion", "regmean", "ssr", "ziplora")


def parts(findings: Findings, run: Path) -> Iterator[ReportTable | ReportFigure | None]:
    """Yield the paper's tables and its figure of a run.

    If cases merge further concepts than those of their prompts, the tables use the images with the most merged.
    """
    merged = {case.id: case.concepts + case.beside for case in Manifest.load(run).cases}
    most = max(len(names) for names in merged.values())
    whole = (
        {case for case, names in merged.items() if len(names) == most} if merged != findings.data.concepts_of else set(merged)
    )
    columns, notes = alignment([of_cases(metric, whole) for metric in findings.measured])
    if len(whole) < len(merged):
        notes.append(f"Of the images with all {most} concepts merged.")
    merging = [("Merge Type", merge_types(findings)), ("Merge Time", merge_times(run))]
    caption = "Image and text alignment, and what merging takes"
    yield from method_tables("blocklora1", caption, findings.data.labels, columns, before=merging, notes=notes)
    yield from preference_tables(findings)
    yield from method_tables("blocklora3", "Ablation study", findings.data.labels, columns, notes=notes)
    for identity in findings.measured:
        if identity.metric not in IDENTITY:
            continue
        name, counted = IDENTITY[identity.metric], by_concepts(identity, merged)
        caption = f"Identity against the number of merged concepts, by {identity.metric}"
        yield by_concepts_table(name, caption, counted, identity.signature)
        if counted:
            yield ReportFigure(name, f"{caption}, with 95 % intervals.", by_concepts_plot(counted))


def of_cases(measured: Measured, cases: Collection[str]) -> Measured:
    """Return what was measured on some of the cases."""
    rows = np.array([case in cases for case, _ in measured.cells], dtype=bool)
    cells = tuple(cell for cell, selected in zip(measured.cells, rows, strict=True) if selected)
    return replace(measured, values=measured.values[rows], sets=measured.sets.take(rows), cells=cells)


def alignment(measured: Sequence[Measured]) -> tuple[list[MetricColumn], list[str]]:
    """Return image alignment, text alignment and, where both are there, their mean."""
    columns, notes = named_columns(measured, ALIGNMENT)
    both = average("avg", [part for part in measured if part.metric in ALIGNMENT])
    if both is not None and len(columns) == len(ALIGNMENT):
        columns.append(MetricColumn("Avg", measure(both)))
    return columns, notes


def merge_types(findings: Findings) -> dict[str, TableCell]:
    """Return the paper's two kinds of merging, by arm."""
    return {
        arm.label: word_cell("Post-Training" if arm.method in POST_TRAINING else "Instant") for arm in findings.data.arms
    }  # fmt: skip


def merge_times(run: Path) -> dict[str, TableCell]:
    """Return the seconds each arm's merge took, as the run's provenance has them; nothing for images made elsewhere."""
    path = run / "provenance.json"
    spent = json.loads(path.read_text(encoding="utf-8")).get("merge_seconds", {}) if path.exists() else {}
    return {arm: plain_cell(seconds, _time(seconds)) for arm, seconds in spent.items()}


def _time(seconds: float) -> str:
    if seconds < 1:
        return "<1 s"
    return f"{number(seconds, 0)} s" if seconds < 120 else f"{number(seconds / 60, 0)} min"


def preference_tables(findings: Findings) -> Iterator[ReportTable]:
    """Yield the share of all votes that each method got, without and with its uncertainty.

    The paper let people choose one of four images, and so does a study with `at_once = 4`. Where they compared two at a time
    the shares of k methods are between 0 and 2 / k; what a choice among all would give follows from the strengths (Luce 1959).
    """
    if findings.several is not None and findings.several.shares:
        yield from picked_tables(findings, findings.several.shares)
    if not len(findings.data.judgments):
        return
    shares = vote_shares(findings)
    chances = chosen_among_all(findings, [share.first for share in shares])
    notes = (
        "Share of all votes from comparisons of two; with k methods it is 1/k where all are equally good, 2/k at most.",
        "Chosen among all: the choice of one among all methods that the strengths (Bradley and Terry) imply.",
    )
    rows = tuple(
        (
            arm_cell(share.first),
            plain_cell(share.estimate, ABSENT if share.estimate is None else percent(share.estimate)),
            plain_cell(chance, ABSENT if chance is None else percent(chance)),
        )
        for share, chance in zip(shares, chances, strict=True)
    )
    printed = (Column("Method", "words"), Column("User Preference"), Column("chosen among all"))
    yield ReportTable("blocklora2", "Users' preference", printed, rows, notes, findings.simulated)
    exact = tuple((arm_cell(share.first), share_cell(share)) for share in shares)
    columns = (Column("Method", "words"), Column("User Preference [95 % CI]"))
    words = (notes[0], error_words(shares))
    caveats = dict.fromkeys(note for share in shares for note in share.notes)
    footnotes = tuple(note for note in (*words, *caveats) if note)
    yield ReportTable(
        "blocklora2_uncertainty", "Users' preference, with uncertainty", columns, exact, footnotes, findings.simulated
    )


def picked_tables(findings: Findings, shares: Sequence[Share]) -> Iterator[ReportTable]:
    """Yield the share of first choices each method got where people picked the best of all images, as the paper asked them."""
    note = f"Share of {count(shares[0].total)} choices of the best image; {percent(1 / len(shares))} each if all are as good."
    rows = tuple((arm_cell(share.arm), plain_cell(share.share, percent(share.share))) for share in shares)
    printed = (Column("Method", "words"), Column("User Preference"))
    yield ReportTable("blocklora2", "Users' preference", printed, rows, (note,), findings.simulated)
    exact = tuple((arm_cell(share.arm), _picked_cell(share)) for share in shares)
    columns = (Column("Method", "words"), Column("User Preference [95 % CI]"))
    sizes = ", ".join(f"{count(size)} {name}" for name, size in shares[0].clusters)
    how = f"Intervals hold for all methods at once (Goodman 1965); the error allows for what recurs ({sizes})."
    notes = (note, how, *dict.fromkeys(caveat for share in shares for caveat in share.notes))
    yield ReportTable(
        "blocklora2_uncertainty", "Users' preference, with uncertainty", columns, exact, notes, findings.simulated
    )


def _picked_cell(share: Share) -> TableCell:
    low, high = share.naive if share.clustered is None else share.clustered
    text = f"{percent(share.share)} [{number(100 * low, 1)}, {number(100 * high, 1)}]"
    return TableCell(text, (("", share.share), ("low", low), ("high", high)))


def vote_shares(findings: Findings) -> list[Contrast]:
    """Return the share of all votes each judged arm got; a vote that can't tell is half a vote for both."""
    rows, concepts = findings.data.judgments, findings.data.concepts_of
    judged = set(rows["first"]) | set(rows["second"])
    arms = [label for label in findings.data.labels if label in judged]
    cases = rows["case"].tolist()
    sets = ConceptSets.of([concepts[case] for case in cases], names=cases)
    comparison, participant = codes_of(rows["comparison"].tolist()), codes_of(rows["participant"].tolist())
    choice = rows["choice"].to_numpy(float)
    shares = []
    for arm in arms:
        got = np.where(rows["first"] == arm, choice, np.where(rows["second"] == arm, 1.0 - choice, 0.0))
        shares.append(
            contrast_of_mean(
                got, comparison, sets, participant, first=arm, second="", measure="votes", scale="share of all votes",
                null=1 / len(arms), bounds=(0.0, 1.0),
            )
        )  # fmt: skip
    return shares


def chosen_among_all(findings: Findings, arms: Sequence[str]) -> list[float | None]:
    """Return the chance of each arm to be chosen among all, if all have a finite strength."""
    fit = findings.strengths.fit if findings.strengths is not None else None
    if fit is None or not set(arms) <= set(fit.arms):
        return [None] * len(arms)
    strength = dict(zip(fit.arms, fit.estimates.tolist(), strict=False))
    weights = np.exp([strength[arm] for arm in arms])
    return [float(weight) for weight in weights / weights.sum()]


if __name__ == "__main__":
    sys.exit(main("blocklora", parts, sys.argv[1:]))
