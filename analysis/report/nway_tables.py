"""The tables of comparisons of more than two images: shares of first choices with their intervals, and strengths."""

from analysis.findings import Findings
from analysis.number_format import ABSENT, count, number, percent
from analysis.report.study_tables import difference_rows
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import arm_cell, error_words, plain_cell
from analysis.report.table_spec import Section, TableContent, report_table
from analysis.votes.nway import Several
from evalkit.plural import plural


@report_table("shares", Section.RESULTS, "Which arm was chosen best of several")
def shares_table(findings: Findings) -> TableContent | None:
    """Return the share of votes each arm got where people picked the best of several, with its simultaneous intervals.

    Source: BlockLoRA, Table 2 (the shares); Goodman 1965 (the intervals).
    """
    several = findings.several
    if several is None or not several.shares:
        return None
    rows = tuple(
        (
            arm_cell(share.arm),
            plain_cell(share.votes, count(share.votes)),
            plain_cell(share.share, percent(share.share)),
            _share_interval(share.naive),
            _share_interval(share.clustered),
            plain_cell(share.worth, ABSENT if share.worth is None else number(share.worth, 0)),
        )
        for share in several.shares
    )
    columns = (
        Column("arm", "words"), Column("chosen best"), Column("share"), Column("95 % CI (naive)"),
        Column("95 % CI (clustered)"), Column("worth independent votes"),
    )  # fmt: skip
    notes = [
        f"n: {_counted(several)}. {percent(1 / len(several.shares))} each where all arms are equally good.",
        "The intervals hold for all arms at once (Goodman 1965). The naive one takes votes for independent; the clustered one "
        "counts the independent votes that these are worth (Korn and Graubard 1998).",
        *dict.fromkeys(note for share in several.shares for note in share.notes),
    ]
    return TableContent(columns, rows, tuple(notes), findings.simulated)


@report_table("shares_contrasts", Section.SEVERAL, "Differences of the shares of first choices")
def share_differences_table(findings: Findings) -> TableContent | None:
    """Return the difference of every two shares with its test."""
    several = findings.several
    if several is None or not several.differences:
        return None
    rows = difference_rows(several.differences, 3)
    columns = (
        Column("comparison", "words"), Column("first − second, share [95 % CI, clustered]"), Column("p"), Column("p (Holm)"),
    )  # fmt: skip
    notes = (
        error_words(several.differences),
        *dict.fromkeys(note for contrast in several.differences for note in contrast.notes),
    )
    footnotes = tuple(note for note in notes if note)
    return TableContent(columns, rows, footnotes, findings.simulated)


@report_table("worths", Section.SEVERAL, "Strengths of arms compared several at once")
def worths_table(findings: Findings) -> TableContent | None:
    """Return the strengths from whole answers with the difference of every two of them."""
    several = findings.several
    if several is None or several.strengths is None:
        return None
    rows = difference_rows(several.strength_contrasts, 2)
    columns = (
        Column("comparison", "words"),
        Column("first − second, log strength [95 % CI, clustered]"),
        Column("p"),
        Column("p (Holm)"),
    )
    strengths = zip(several.strengths.arms, several.strengths.estimates.tolist(), strict=True)
    listing = ", ".join(f"{arm} {number(estimate, 2)}" for arm, estimate in strengths)
    what = "rankings" if several.ranked else "choices of the best"
    notes = [
        f"n: {_counted(several)}. Log strengths with mean zero: {listing}.",
        f"Fitted to {what}: an arm is chosen with its strength over the sum of those it was chosen among (Luce 1959, Plackett "
        "1975).",
        error_words(several.strength_contrasts),
        *dict.fromkeys(note for contrast in several.strength_contrasts for note in contrast.notes),
    ]
    return TableContent(columns, rows, tuple(note for note in notes if note), findings.simulated)


def several_sentence(findings: Findings) -> str:
    """Return in a sentence which arm was chosen best most often, or came out strongest; empty without such comparisons."""
    several = findings.several
    if several is None:
        return ""
    suffix = " Simulated judgments." if findings.simulated else ""
    if not several.shares:
        if several.strengths is None:
            return f"{_counted(several)} on several images at once: {several.note}.{suffix}"
        strongest = several.strengths.arms[int(several.strengths.estimates.argmax())]
        return f"{strongest} came out strongest of {len(several.strengths.arms)} in {_counted(several)}.{suffix}"
    most = max(several.shares, key=lambda share: share.votes)
    interval = most.clustered or most.naive
    kind = "clustered" if most.clustered else "naive"
    return (
        f"{most.arm} was chosen best of {len(several.shares)} most often: {percent(most.share)} "
        f"of {plural(most.total, 'vote')}, "
        f"95 % CI {percent(interval[0])} to {percent(interval[1])} ({kind}).{suffix}"
    )


def _counted(several: Several) -> str:
    undecided = f" ({count(several.undecided)} more could not tell)" if several.undecided else ""
    return f"{count(several.votes)} {'rankings' if several.ranked else 'votes'}{undecided}"


def _share_interval(interval: tuple[float, float] | None) -> TableCell:
    if interval is None:
        return plain_cell(None, ABSENT)
    return TableCell(f"{percent(interval[0])} to {percent(interval[1])}", (("low", interval[0]), ("high", interval[1])))
