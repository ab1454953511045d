"""The tables of robustness: what else might have moved the results, and what is left of them under other treatments."""

from collections.abc import Iterable

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.grouping import votes_of
from analysis.metrics.arm_profiles import MiddleMean, middle_means
from analysis.number_format import ABSENT, count, p_value
from analysis.report.metric_tables import ARROW_NOTE, signatures
from analysis.report.study_tables import arm_pair
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import (
    error_words,
    interval_cell,
    mean_cell,
    metric_cell,
    pair_cell,
    plain_cell,
    share_cell,
    word_cell,
)
from analysis.report.table_spec import Section, TableContent, report_table
from analysis.votes.biases import biases, null_pairs
from analysis.votes.screening import screen
from analysis.votes.ties import TieTreatment, tie_treatments

# with 399 resamples the ends of a 95 % interval are resamples themselves
DRAWS = 399


@report_table("biases", Section.ROBUSTNESS, "What should not move votes: side, order, time")
def biases_table(findings: Findings) -> TableContent | None:
    """Return what should not move votes: side, order, time, and arms that are the same."""
    if not findings.preferences:
        return None
    columns = (
        Column("influence", "words"), Column("comparison", "words"), Column("estimate [95 % CI]"), Column("without influence"),
        Column("p"), Column("p (Holm)"),
    )  # fmt: skip
    rows, contrasts = [], []
    for bias in (*biases(findings.data), *null_pairs(findings.data)):
        contrast = bias.contrast
        contrasts.append(contrast)
        label = contrast.scale if bias.influence in ("side", "order", "time") else f"same arms twice: {contrast.scale}"
        rows.append(
            (
                word_cell(label),
                pair_cell(contrast.first, contrast.second),
                share_cell(contrast),
                plain_cell(contrast.null, f"{100 * contrast.null:g} %"),
                plain_cell(contrast.p, p_value(contrast.p)),
                plain_cell(contrast.p_adjusted, p_value(contrast.p_adjusted)),
            )
        )
    notes = (
        "Sides are random for every vote, so a bias to one side favours no arm; it only makes votes worth less. Changes are in "
        "the share for the first arm, within participants. Correction: Holm over the comparisons of arms.",
        error_words(contrasts),
        *_reasons(contrasts),
    )
    return TableContent(columns, tuple(rows), _said(notes), findings.simulated)


@report_table("ties", Section.ROBUSTNESS, "What becomes of ties")
def ties_table(findings: Findings) -> TableContent | None:
    """Return the preference with ties dropped, split in half and modelled."""
    if not findings.preferences:
        return None
    columns = (
        Column("comparison", "words"), Column("of", "words"), Column("ties", "words"), Column("first / tie / second"),
        Column("scale", "words"), Column("estimate [95 % CI]"), Column("p"),
    )  # fmt: skip
    treated = [treatment for votes in votes_of(findings.data) for treatment in tie_treatments(votes)]
    notes = (
        "A tie of votes is cannot tell, a tie of outcomes an even split. If the treatments disagree, the result rests on ties.",
        "Votes split in half are the default. Outcomes are taken for independent (exact binomial), dropped ones as papers do. "
        "Davidson's model of two arms gives the log odds of the decided votes.",
        error_words(treatment.contrast for treatment in treated),
        *_reasons(treatment.contrast for treatment in treated),
    )
    rows = tuple(_tie_row(treatment) for treatment in treated)
    return TableContent(columns, rows, _said(notes), findings.simulated)


def _tie_row(treatment: TieTreatment) -> tuple[TableCell, ...]:
    contrast, tallies = treatment.contrast, (treatment.for_first, treatment.ties, treatment.for_second)
    return (
        pair_cell(contrast.first, contrast.second),
        word_cell(treatment.unit),
        word_cell(treatment.treatment),
        TableCell(" / ".join(count(value) for value in tallies), tuple(zip(("first", "ties", "second"), tallies, strict=True))),
        word_cell(contrast.scale),
        share_cell(contrast) if contrast.null == 0.5 else mean_cell(contrast, 2),
        plain_cell(contrast.p, p_value(contrast.p)),
    )


@report_table("screening", Section.ROBUSTNESS, "The result without participants who may not have looked")
def screening_table(findings: Findings) -> TableContent | None:
    """Return the preference without participants who may not have looked."""
    if not findings.preferences:
        return None
    columns = (
        Column("comparison", "words"), Column("participants"), Column("pointed at"), Column("everybody [95 % CI]"), Column("p"),
        Column("without them [95 % CI]"), Column("p without them"),
    )  # fmt: skip
    screened = [screen(votes) for votes in votes_of(findings.data)]
    rows = tuple(
        (
            pair_cell(screening.everybody.first, screening.everybody.second),
            plain_cell(len(screening.participants), count(len(screening.participants))),
            plain_cell(out := sum(who.pointed_at for who in screening.participants), count(out)),
            share_cell(screening.everybody),
            plain_cell(screening.everybody.p, p_value(screening.everybody.p)),
            share_cell(screening.without),
            plain_cell(screening.without.p, p_value(screening.without.p)),
        )
        for screening in screened
    )
    contrasts = [contrast for screening in screened for contrast in (screening.everybody, screening.without)]
    notes = (
        "Pointed at: nine votes in ten or more for one side, or a reliability below chance (one-coin model, Dawid and "
        "Skene 1979), with ten decided votes or more. No one is left out of any other table: with a preference, who is "
        "right is a model and not a fact.",
        f"Share of votes for the first arm. {error_words(contrasts)}".strip(),
        *_reasons(contrasts),
    )
    return TableContent(columns, rows, notes, findings.simulated)


@report_table("middle_means", Section.ROBUSTNESS, "Interquartile means of the metrics per arm")
def middle_means_table(findings: Findings) -> TableContent | None:
    """Return the interquartile mean of every metric per arm."""
    measured = [scored for scored in findings.measured if len(scored.values)]
    if not measured:
        return None
    made = {scored.metric: [mean for mean in middle_means(scored, DRAWS) if not mean.second] for scored in measured}
    directions = {metric.metric: metric.direction for metric in findings.metrics}
    rows = tuple(
        (metric_cell(name, directions.get(name)), *_middle_cells(means, findings.data.labels)) for name, means in made.items()
    )
    every = [mean for means in made.values() for mean in means]
    notes = (
        "Mean of the middle half of an arm's scores: the lowest and the highest quarter do not move it. If it gives another "
        f"result than the mean, few images make the difference. Interval: hierarchical bootstrap over {_levels(every)}.",
        ARROW_NOTE,
        *dict.fromkeys(f"{mean.metric}: {mean.note}" for mean in every if mean.note),
    )
    columns = (Column("", "words"), *(Column(f"{label} [95 % CI]", arm=label) for label in findings.data.labels))
    return TableContent(columns, rows, notes, recipes=signatures(every))


def _middle_cells(means: list[MiddleMean], labels: Iterable[str]) -> list[TableCell]:
    by_arm = {mean.first: mean for mean in means}
    return [
        interval_cell(by_arm[label].estimate, by_arm[label].interval, 4) if label in by_arm else plain_cell(None, ABSENT)
        for label in labels
    ]


def _levels(means: list[MiddleMean]) -> str:
    return "; or ".join(dict.fromkeys(" and ".join(mean.scope) for mean in means if mean.scope)) or "nothing here"


def _reasons(contrasts: Iterable[Contrast]) -> tuple[str, ...]:
    """Return what weakens numbers, and why others are absent with all comparisons that is true of; each once."""
    of_note: dict[str, dict[str, None]] = {}
    for contrast in contrasts:
        for note in contrast.notes:
            if contrast.estimate is None:
                of_note.setdefault(f"{contrast.scale}: {note}", {})[arm_pair(contrast)] = None
            else:
                of_note.setdefault(note, {})
    return tuple(f"{'; '.join(names)}: {note}" if names else note for note, names in of_note.items())


def _said(notes: Iterable[str]) -> tuple[str, ...]:
    return tuple(note for note in notes if note)
