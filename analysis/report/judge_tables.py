"""The tables of machine judges: agreement with people next to the human ceiling, position bias, and shares side by side."""

from analysis.findings import Findings
from analysis.judges.against_people import EPSILON, JudgeAgainstPeople
from analysis.number_format import ABSENT, count, number, percent
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import error_words, mean_cell, pair_cell, plain_cell, share_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table


@report_table("judges", Section.JUDGES, "Machine judges against people")
def judges_table(findings: Findings) -> TableContent | None:
    """Return a row per judge and question: agreement, ceiling, difference, alternative annotator test, position bias."""
    if not findings.judges:
        return None
    columns = (
        Column("judge", "words"), Column("question", "words"), Column("comparisons answered"),
        Column("judge agrees with people [95 % CI, clustered]"), Column("people agree with people [95 % CI, clustered]"),
        Column("difference [95 % CI, clustered]"), Column("alternative annotator test (omega; a coin passes)"),
        Column("flips when swapped"), Column("first place chosen"), Column("refused / unreadable / failed calls"),
    )  # fmt: skip
    contrasts = [judge.difference for judge in findings.judges if judge.difference is not None]
    points = number(100 * EPSILON, 0)
    notes = (
        *(judge.sentence for judge in findings.judges if judge.question == "overall"),
        "Judges are machines: no vote of theirs is in any other table. Both orders of each comparison were asked; a flip "
        "counts as cannot tell, which agrees by half.",
        "Agreement: with the majority of the other votes (leave-one-out), judge and person against the same majorities. "
        "All comparisons lie within one case. " + error_words(contrasts),
        f"A judge may stand in for people if it agrees above chance, and the interval excludes {points} points less than they.",
        "Alternative annotator test: Calderon et al. 2025 (arXiv 2501.10970); omega of .5 or more passes. Where people "
        "disagree a coin passes too, so its pass rate is next to it.",
    )
    return TableContent(columns, tuple(_judge_row(judge) for judge in findings.judges), notes, findings.simulated)


def _judge_row(judge: JudgeAgainstPeople) -> tuple[TableCell, ...]:
    absent = word_cell(ABSENT)
    calls = (judge.refused, judge.unreadable, judge.failed)
    flips = judge.flips / judge.answered if judge.answered and judge.kind != "score" else None
    test = judge.alternative
    return (
        word_cell(f"{judge.judge} ({judge.kind})"),
        word_cell(judge.question),
        plain_cell(judge.answered, f"{count(judge.answered)} of {count(judge.comparisons)}"),
        absent if judge.agreement is None else share_cell(judge.agreement),
        absent if judge.ceiling is None else share_cell(judge.ceiling),
        absent if judge.difference is None else mean_cell(judge.difference, 3),
        absent
        if test is None
        else TableCell(
            f"{number(test.winning_rate, 2)}; {percent(judge.coin or 0)}",
            (("", test.winning_rate), ("advantage", test.advantage_probability), ("coin", judge.coin)),
        ),
        absent if flips is None else plain_cell(flips, percent(flips)),
        absent if judge.first_place is None else plain_cell(judge.first_place, percent(judge.first_place)),
        TableCell(
            " / ".join(count(value) for value in calls),
            tuple(zip(("refused", "unreadable", "failed"), calls, strict=True)),
        ),
    )


@report_table("judge_shares", Section.JUDGES, "Shares by machine judges and by people, on the same comparisons")
def judge_shares_table(findings: Findings) -> TableContent | None:
    """Return a row per judge and pair of arms: both shares for the first arm, and their paired difference."""
    rows = tuple(
        (
            pair_cell(share.difference.first, share.difference.second), word_cell(judge.judge), share_cell(share.judge),
            share_cell(share.people), mean_cell(share.difference, 3),
        )
        for judge in findings.judges
        for share in judge.shares
    )  # fmt: skip
    if not rows:
        return None
    columns = (
        Column("comparison", "words"), Column("judge", "words"), Column("share for first, judge [95 % CI, clustered]"),
        Column("share for first, people [95 % CI, clustered]"), Column("judge − people [95 % CI, clustered]"),
    )  # fmt: skip
    contrasts = [share.difference for judge in findings.judges for share in judge.shares]
    notes = (
        "A flip or cannot tell is half a vote each. The difference is taken comparison by comparison. "
        + error_words(contrasts),
        "A judge on the same images saves no votes, however good it is.",
    )
    return TableContent(columns, rows, notes, findings.simulated)
