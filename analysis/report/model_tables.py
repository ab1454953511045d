"""The tables of models: what makes votes differ, and how strong every arm is."""

import math

from analysis.findings import Findings
from analysis.inference.glmm import INTERCEPT
from analysis.number_format import ABSENT, count, number, p_value
from analysis.report.study_tables import difference_rows
from analysis.report.table import Column, TableCell
from analysis.report.table_cells import arm_cell, error_words, interval_cell, pair_cell, plain_cell
from analysis.report.table_spec import Section, TableContent, report_table
from analysis.votes.arm_strengths import ArmStrengths, StrengthBound
from analysis.votes.vote_models import SIDE, VoteModel
from evalkit.plural import plural

# Quasi standard errors that miss a difference's error by more than this are unreliable.
ROUGH = 0.1
# In the order of the table; what a design does not hold has no column.
LEVELS = ("comparison", "pair", "concept set", "concept", "participant")


@report_table("variance", Section.VARIANCE, "What makes votes differ")
def vote_model_table(findings: Findings) -> TableContent | None:
    """Return the mixed model of every pair of arms: preference, side, how much each level makes votes differ."""
    fitted = [model.fit for model in findings.models if model.fit is not None]
    if not fitted:
        return None
    levels = [level for level in LEVELS if any(part.name == level for fit in fitted for part in fit.components)]
    columns = (
        Column("comparison", "words"), Column("preference for first, logits [95 % CI]"), Column("p"),
        Column("effect of the left side, logits [95 % CI]"), *(Column(f"SD by {level} [95 % CI]") for level in levels),
        Column("votes"),
    )  # fmt: skip
    rows = tuple(_model_row(model, levels) for model in findings.models)
    notes = (
        "Logistic mixed model of the decided votes with crossed random effects, by Laplace approximation. "
        "SD: standard deviation of a level's effects in logits; .5 moves a vote share of 50 % to 62 %.",
        "A large SD by participant means that people differ in taste, by concept or pair that the answer depends on what is "
        "drawn, by comparison that it depends on the seed. Intervals: Wald's, or the profile's if a deviation is near zero.",
        "The preference is that of a typical person on a typical comparison; the verdict rests on the share of votes instead. "
        "Its interval and p are those of a t with the fewest levels less one degrees of freedom; p is not corrected, "
        "and with few concepts or participants that differ much it is below .05 too often.",
        *(
            f"{model.first} vs {model.second}: "
            f"{plural(model.cannot_tell, 'vote without a preference is', 'votes without a preference are')} left out."
            for model in findings.models
            if model.cannot_tell
        ),
        *(model.note for model in findings.models if model.note),
    )
    return TableContent(columns, rows, tuple(dict.fromkeys(notes)), findings.simulated)


def _model_row(model: VoteModel, levels: list[str]) -> tuple[TableCell, ...]:
    name = pair_cell(model.first, model.second)
    if model.fit is None:
        return (name, *(plain_cell(None, ABSENT) for _ in range(len(levels) + 4)))
    effects = {effect.name: effect for effect in model.fit.fixed}
    deviations = {part.name: part for part in model.fit.components}
    side, preference = effects.get(SIDE), model.fit.small_sample_effect(INTERCEPT)
    return (
        name,
        interval_cell(preference.estimate, preference.interval, 2),
        plain_cell(preference.p, p_value(preference.p)),
        interval_cell(side.estimate, side.interval, 2) if side is not None else plain_cell(None, ABSENT),
        *(
            interval_cell(deviations[level].deviation, deviations[level].interval, 2)
            if level in deviations
            else plain_cell(None, ABSENT)
            for level in levels
        ),
        plain_cell(model.fit.rows, count(model.fit.rows)),
    )


@report_table("strengths", Section.STRENGTHS, "Strength of every arm, from all votes")
def strengths_table(findings: Findings) -> TableContent | None:
    """Return the log strength of every arm with its quasi standard error."""
    strengths = findings.strengths
    if strengths is None or strengths.fit is None:
        return None
    fit, quasi = strengths.fit, strengths.quasi
    errors: list[float | None] = list(quasi.errors.tolist()) if quasi is not None else [None] * len(fit.arms)
    ranked = sorted(zip(fit.estimates.tolist(), fit.arms, errors, strict=False), reverse=True)
    fitted = tuple(
        (
            arm_cell(arm),
            plain_cell(value, number(value, 2)),
            plain_cell(error, ABSENT if error is None else number(error, 2)),
            plain_cell(chance := 1.0 / (1.0 + math.exp(-value)), f"{number(100 * chance, 0)} %"),
        )
        for value, arm, error in ranked
    )
    above, below = (tuple(_bound_row(bound) for bound in strengths.bounds if bound.at_least is sign) for sign in (True, False))
    rows: tuple[tuple[TableCell, ...], ...] = (*above, *fitted, *below)
    columns = (Column("arm", "words"), Column("log strength"), Column("quasi-SE"), Column("chance against an average arm"))
    return TableContent(columns, rows, _strength_notes(strengths), findings.simulated)


def _bound_row(bound: StrengthBound) -> tuple[TableCell, ...]:
    sign = "≥" if bound.at_least else "≤"
    chance = None if bound.bound is None else 1.0 / (1.0 + math.exp(-bound.bound))
    return (
        arm_cell(bound.arm),
        TableCell(ABSENT if bound.bound is None else f"{sign} {number(bound.bound, 2)}", (("", bound.bound),)),
        plain_cell(None, ABSENT),
        TableCell(ABSENT if chance is None else f"{sign} {number(100 * chance, 0)} %", (("", chance),)),
    )


def _strength_notes(strengths: ArmStrengths) -> tuple[str, ...]:
    fit, quasi = strengths.fit, strengths.quasi
    if fit is None:
        return (strengths.note,)
    model = "Davidson's model (1970), which has ties" if fit.with_ties else "Bradley and Terry's model (1952)"
    notes = [f"{model}, of {plural(round(fit.votes), 'vote')}; log strengths in logits, their mean is zero."]
    if quasi is not None:
        notes.append(
            "Quasi-SE (Firth and de Menezes 2004): the error of a difference is near the root of the sum of two squares, "
            f"here within {number(100 * quasi.worst, 0)} %. {error_words(strengths.differences)}"
        )
        if not quasi.errors.all() or quasi.worst > ROUGH:
            notes.append("Errors of single arms do not describe these differences well: read the differences themselves.")
    if fit.with_side:
        estimate, error = fit.side
        notes.append(f"The left side adds {number(estimate, 2)} logits (SE {number(error, 2)}, votes assumed independent).")
    if fit.with_ties:
        notes.append(f"Log of the tie parameter: {number(fit.log_tie[0], 2)} (SE {number(fit.log_tie[1], 2)}, likewise).")
    return (*notes, *([strengths.note] if strengths.note else []))


@report_table("strengths_contrasts", Section.STRENGTHS, "Differences of strengths")
def strength_contrasts(findings: Findings) -> TableContent | None:
    """Return the difference of every two arms' log strengths."""
    if findings.strengths is None or not findings.strengths.differences:
        return None
    made = findings.strengths.differences
    rows = difference_rows(made, 2)
    columns = (Column("comparison", "words"), Column("first − second, logits [95 % CI]"), Column("p"), Column("p (Holm)"))
    notes = (
        error_words(made),
        "Correction: Holm over the pairs of arms.",
        *dict.fromkeys(n for contrast in made for n in contrast.notes),
    )
    footnotes = tuple(note for note in notes if note)
    return TableContent(columns, rows, footnotes, findings.simulated)
