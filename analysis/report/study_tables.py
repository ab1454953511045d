"""The tables of votes: Table 1 as the papers print it, and the same with its uncertainty."""

from collections.abc import Sequence

from analysis.contrast import Contrast
from analysis.findings import Findings
from analysis.number_format import ABSENT, count, counted, number, p_value, percent
from analysis.report.metric_tables import signatures
from analysis.report.scope_words import scoped_verdict
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
from analysis.votes.preference import Preference
from evalkit.plural import plural


def arm_pair(contrast: Contrast | Preference) -> str:
    """Return what a comparison of two arms is called."""
    return f"{contrast.first} vs {contrast.second}"


def difference_rows(contrasts: Sequence[Contrast], digits: int) -> tuple[tuple[TableCell, ...], ...]:
    """Return a row for each difference of two arms: which, how large, p, and p after Holm's correction."""
    return tuple(
        (
            pair_cell(contrast.first, contrast.second),
            mean_cell(contrast, digits),
            plain_cell(contrast.p, p_value(contrast.p)),
            plain_cell(contrast.p_adjusted, p_value(contrast.p_adjusted)),
        )
        for contrast in contrasts
    )


@report_table("table1", Section.RESULTS, "Similarity and user study, as printed")
def table_1(findings: Findings) -> TableContent | None:
    """Return Table 1 as printed: similarity and user study per pair of arms; None without either.

    The user study is the share of decided comparisons that the first arm won by majority vote. Source: Orthogonal Monte Carlo
    Dropout, Table 1.
    """
    if not findings.preferences and not findings.similarities:
        return None
    pairs = findings.data.arm_pairs
    rows = []
    for similarity in findings.similarities:
        means = {(mean.first, mean.second): mean.estimate for mean in similarity.means}
        rows.append((metric_cell(similarity.metric), *(_printed(means.get(pair)) for pair in pairs)))
    if findings.preferences:
        wins = {(preference.first, preference.second): preference.naive.estimate for preference in findings.preferences}
        cells = (_printed_share(wins.get(pair)) for pair in pairs)
        rows.append((word_cell("user study"), *cells))
    notes = [f"{similarity.metric}: mean over cases and seeds." for similarity in findings.similarities]
    if findings.preferences:
        notes.append("User study: share of comparisons won by the first arm by majority vote; ties are left out.")
        notes.append("As printed in the papers, without uncertainty; the next table has it.")
    columns = (Column("", "words"), *(Column(f"{first} vs {second}") for first, second in pairs))
    return TableContent(
        columns, tuple(rows), tuple(notes), _from_simulation(findings), recipes=signatures(findings.similarities)
    )


@report_table("table1_uncertainty", Section.RESULTS, "Which arm people preferred, with uncertainty")
def preference_table(findings: Findings) -> TableContent | None:
    """Return Table 1's user study with its uncertainty: the naive test, and the one that respects what recurs."""
    if not findings.preferences:
        return None
    columns = (
        Column("comparison", "words"),
        Column("first / tie / second"),
        Column("won by first (majority) [95 % CI, Wilson]"),
        Column("p (exact, naive)"),
        Column("share of votes for first [95 % CI, clustered]"),
        Column("p"),
        Column("p (Holm)"),
        Column("p (equivalence, Holm)"),
        Column("verdict", "words"),
    )
    rows = tuple(_preference_row(preference, findings.margin_scale) for preference in findings.preferences)
    return TableContent(
        columns,
        rows,
        preference_notes(findings),
        _from_simulation(findings),
    )


def _preference_row(preference: Preference, scale: str) -> tuple[TableCell, ...]:
    judged = preference.clustered if scale == "votes" else preference.naive
    tallies = (
        ("first", preference.first_wins),
        ("ties", preference.ties),
        ("second", preference.second_wins),
        ("votes", preference.votes),
    )
    return (
        pair_cell(preference.first, preference.second),
        TableCell(f"{count(preference.first_wins)} / {count(preference.ties)} / {count(preference.second_wins)}", tallies),
        share_cell(preference.naive),
        plain_cell(preference.naive.p, p_value(preference.naive.p)),
        share_cell(preference.clustered),
        plain_cell(preference.clustered.p, p_value(preference.clustered.p)),
        plain_cell(preference.clustered.p_adjusted, p_value(preference.clustered.p_adjusted)),
        plain_cell(judged.p_equivalence_adjusted, p_value(judged.p_equivalence_adjusted)),
        word_cell(scoped_verdict(preference.clustered)),
    )


def preference_notes(findings: Findings) -> tuple[str, ...]:
    """Return what a reader must know to read the preference table."""
    comparisons = sum(preference.comparisons for preference in findings.preferences)
    votes = sum(preference.votes for preference in findings.preferences)
    notes = [
        f"n: {counted(votes, 'vote')} on {count(comparisons)} of {plural(findings.data.planned, 'planned comparison')}.",
        "Naive: exact binomial test on majority outcomes, ties left out; it takes the comparisons for independent.",
        "Clustered: share of votes (cannot tell = half a vote each). "
        + error_words(preference.clustered for preference in findings.preferences)
        + " The verdict rests on it.",
        "Correction: Holm over the comparisons of arms. Verdict at 5 %.",
    ]
    if findings.data.external:
        notes.append(f"External: the votes were imported from {findings.data.external}; evalkit did not collect them.")
    if findings.margin is not None:
        unit = "share of votes" if findings.margin_scale == "votes" else "share of decided comparisons"
        notes.append(f"Margin of equivalence: ±{number(100 * findings.margin, 1)} percentage points around 50 % ({unit}).")
    notes += findings.data.amendments
    if findings.data.surplus:
        notes.append(
            f"{plural(findings.data.surplus, 'surplus vote is', 'surplus votes are')} left out, "
            "given after their place was taken."
        )
    seen = dict.fromkeys(
        note for preference in findings.preferences for note in (*preference.naive.notes, *preference.clustered.notes)
    )
    return (*notes, *seen)


@report_table("table1_similarity", Section.SIMILARITY, "How alike two arms' images are")
def similarity_table(findings: Findings) -> TableContent | None:
    """Return the mean similarity of every pair of arms with its interval."""
    rows = tuple(
        (
            metric_cell(similarity.metric),
            pair_cell(mean.first, mean.second),
            mean_cell(mean),
            plain_cell(mean.n, count(mean.n)),
        )
        for similarity in findings.similarities
        for mean in similarity.means
    )
    if not rows:
        return None
    columns = (Column("metric", "words"), Column("comparison", "words"), Column("mean [95 % CI]"), Column("n"))
    means = [mean for similarity in findings.similarities for mean in similarity.means]
    notes = [f"n: cases times seeds. {error_words(means)}".strip()]
    seen = dict.fromkeys(note for mean in means for note in mean.notes)
    return TableContent(columns, rows, (*notes, *seen), recipes=signatures(findings.similarities))


@report_table("agreement", Section.AGREEMENT, "How far participants agree")
def agreement_table(findings: Findings) -> TableContent | None:
    """Return how far participants agree on each pair of arms."""
    if not findings.preferences:
        return None
    rows = []
    for preference, agreed, ceiling in zip(findings.preferences, findings.agreements, findings.ceilings, strict=True):
        rows.append(
            (
                pair_cell(preference.first, preference.second),
                plain_cell(agreed.units, count(agreed.units)),
                _agreed(agreed.raw, agreed.raw_interval),
                _agreed(agreed.kappa, None),
                _agreed(agreed.alpha, agreed.alpha_interval),
                _agreed(agreed.ac1, agreed.ac1_interval),
                share_cell(ceiling),
            )
        )
    columns = (
        Column("comparison", "words"), Column("comparisons judged twice or more"), Column("raw agreement [95 % CI]"),
        Column("Fleiss' κ"), Column("Krippendorff's α [95 % CI]"), Column("Gwet's AC1 [95 % CI]"),
        Column("noise ceiling [95 % CI]"),
    )  # fmt: skip
    notes = [
        "Raw agreement: share of pairs of votes on one comparison that are equal. "
        "Low κ and α are to be expected where two arms are equally good: there is then nothing to agree about.",
        "AC1 does not collapse where nearly all votes are the same. "
        "Intervals: crossed bootstrap over concepts and participants, percentiles; κ differs little from α and is given alone.",
        "Noise ceiling: how often a vote equals the majority of the other votes on its comparison; no metric can be asked to "
        "predict votes better than people do.",
        *dict.fromkeys(agreed.note for agreed in findings.agreements if agreed.note),
    ]
    return TableContent(columns, tuple(rows), tuple(notes), _from_simulation(findings))


def _agreed(value: float | None, interval: tuple[float, float] | None) -> TableCell:
    if value is None:
        return plain_cell(None, ABSENT)
    return interval_cell(value, interval, 3)


def _printed(value: float | None) -> TableCell:
    return plain_cell(value, ABSENT if value is None else number(value, 4))


def _printed_share(value: float | None) -> TableCell:
    return plain_cell(value, ABSENT if value is None else percent(value))


def _from_simulation(findings: Findings) -> bool:
    return findings.simulated and bool(findings.preferences)
