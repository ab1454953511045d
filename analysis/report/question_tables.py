"""The tables of studies with several questions: differences between arms per question, and levels of arms."""

from analysis.findings import Findings
from analysis.number_format import ABSENT, count, p_value
from analysis.questions.question_results import QuestionResult
from analysis.report.scope_words import scoped_verdict
from analysis.report.table import Column
from analysis.report.table_cells import arm_cell, error_words, mean_cell, pair_cell, plain_cell, share_cell, word_cell
from analysis.report.table_spec import Section, TableContent, report_table
from evalkit.plural import plural


@report_table("questions", Section.RESULTS, "What people answered to each question")
def questions_table(findings: Findings) -> TableContent | None:
    """Return the difference of every two arms for every question, corrected over all of them; None with one question."""
    rows = tuple(
        (
            word_cell(_name(findings, result)),
            pair_cell(contrast.first, contrast.second),
            share_cell(contrast) if result.measure == "preference" else mean_cell(contrast, 3),
            word_cell(contrast.scale),
            plain_cell(contrast.p, ABSENT if contrast.p is None else p_value(contrast.p)),
            plain_cell(contrast.p_adjusted, ABSENT if contrast.p_adjusted is None else p_value(contrast.p_adjusted)),
            word_cell(scoped_verdict(contrast)),
        )
        for result in findings.questions
        for contrast in result.contrasts
    )
    if not rows:
        return None
    columns = (
        Column("question", "words"), Column("comparison", "words"), Column("estimate [95 % CI, clustered]"),
        Column("scale", "words"), Column("p"), Column("p (Holm, all questions)"), Column("verdict", "words"),
    )  # fmt: skip
    contrasts = [contrast for result in findings.questions for contrast in result.contrasts]
    counted = "; ".join(f"{result.question} {count(result.answers)}" for result in findings.questions)
    notes = [
        f"Answers: {counted}.",
        "Correction: Holm over all questions and comparisons of arms together. "
        "The primary question's own table corrects over its comparisons alone.",
        "Preferences: 1 for the first arm, 0.5 for neither, graded answers in equal steps between; of several images, "
        "a choice of another image is 0.5.",
        error_words(contrasts),
        *dict.fromkeys(note for contrast in contrasts for note in contrast.notes),
    ]
    written = [result for result in findings.questions if result.measure == "count"]
    notes += [f"{result.question}: {plural(result.answers, 'answer')} in words, not analyzed." for result in written]
    return TableContent(columns, rows, tuple(note for note in notes if note), findings.simulated)


@report_table("question_levels", Section.RESULTS, "Mean rating or share of yes of each arm")
def question_levels_table(findings: Findings) -> TableContent | None:
    """Return the level of every arm for questions that rate single images; None without such a question."""
    levels = [(result, level) for result in findings.questions for level in result.levels]
    if not levels:
        return None
    rows = tuple(
        (
            word_cell(_name(findings, result)),
            arm_cell(level.first),
            share_cell(level) if result.measure == "share" else mean_cell(level, 2),
            word_cell(level.scale),
            plain_cell(level.n, count(level.n)),
        )
        for result, level in levels
    )
    columns = (
        Column("question", "words"), Column("arm", "words"), Column("level [95 % CI, clustered]"), Column("scale", "words"),
        Column("n"),
    )  # fmt: skip
    notes = (error_words(level for _, level in levels),)
    return TableContent(columns, rows, tuple(note for note in notes if note), findings.simulated)


def _name(findings: Findings, result: QuestionResult) -> str:
    title = findings.titles.questions.get(result.question, result.question)
    return f"{title} (primary)" if result.is_primary else title
