"""The verdicts in words: one sentence per question, each with its number, its uncertainty and its scope."""

from dataclasses import dataclass, replace

from analysis.contrast import Contrast, Verdict
from analysis.findings import Findings
from analysis.metrics.paired import MetricResult
from analysis.number_format import counted, decimals_for, number, p_value, percent
from analysis.report.scope_words import narrower_sentence, scope_suffix
from analysis.votes.preference import Preference
from evalkit.plural import plural

BETTER = {"higher": "better (higher)", "lower": "better (lower)", "none": "higher"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A headline, its evidence, and its verdict."""

    headline: str
    detail: str
    verdict: Verdict
    simulated: bool = False


def preference_sentence(pair: Preference, findings: Findings) -> Sentence:
    """Return the sentence on people's votes for one pair of arms; its verdict rests on the clustered test."""
    contrast = pair.clustered
    who = _who(findings)
    ahead, behind = _order(contrast)
    headline = {
        Verdict.DIFFERENT: f"{who} preferred {ahead} over {behind}.",
        Verdict.DIFFERENT_WITHIN: f"{who} preferred {ahead} over {behind}, but by less than the margin.",
        Verdict.EQUIVALENT: f"{who} found {pair.first} and {pair.second} equally good, within the margin.",
        Verdict.INCONCLUSIVE: (
            f"Inconclusive: these votes can't tell whether {who.lower()} prefer {pair.first} or {pair.second}."
        ),
    }[contrast.verdict]
    if contrast.verdict != Verdict.INCONCLUSIVE:
        headline = f"{headline[:-1]}{scope_suffix(contrast)}."
    parts = [_votes(contrast, pair.first)]
    if pair.naive.estimate is not None:
        parts.append(
            f"By majority {pair.first} won {percent(pair.naive.estimate)} of {counted(pair.naive.n, 'decided comparison')} "
            f"({_interval(pair.naive)}, naive), with {_ties(pair.ties)}."
        )
    if contrast.scope:
        parts += [f"Holds for other {_list(contrast.scope)} like these.", narrower_sentence(contrast)]
    return Sentence(headline, " ".join(part for part in parts if part), contrast.verdict, findings.simulated)


def metric_sentence(metric: MetricResult) -> Sentence:
    """Return the sentence on one metric; where all metrics were corrected together, it holds together with the others."""
    metric = replace(metric, contrasts=tuple(_together(contrast) for contrast in metric.contrasts))
    separated = [contrast for contrast in metric.contrasts if contrast.verdict in (Verdict.DIFFERENT, Verdict.DIFFERENT_WITHIN)]
    best = metric.best()
    if best is not None and len(metric.arms) > 2:
        headline = f"{metric.metric}: {best} is {BETTER[metric.direction]} than every other arm."
    elif len(separated) == 1:
        ahead, behind = _order(separated[0])
        if metric.direction == "lower":
            ahead, behind = behind, ahead
        headline = f"{metric.metric}: {ahead} is {BETTER[metric.direction]} than {behind}."
    elif separated:
        pairs = f"{len(separated)} of {plural(len(metric.contrasts), 'pair of arms', 'pairs of arms')}"
        aim = "" if metric.direction == "none" else f" ({metric.direction} is better)"
        headline = f"{metric.metric}{aim} separates {pairs}."
    elif metric.contrasts:
        pairs = "the arms" if len(metric.contrasts) == 1 else "any two arms"
        headline = f"Inconclusive: {metric.metric} can't tell {pairs} apart."
    else:
        headline = f"{metric.metric} was measured on one arm only, so there is nothing to compare."
    if separated:
        headline = f"{headline[:-1]}{scope_suffix(separated[0])}."
    if metric.exploratory:
        headline = f"Exploratory: {headline}"
    detail = " ".join(_difference(contrast) for contrast in separated)
    return Sentence(headline, detail, Verdict.DIFFERENT if separated else Verdict.INCONCLUSIVE)


def cautions(findings: Findings) -> tuple[str, ...]:
    """Return what weakens the verdicts on preference, each caution once."""
    return tuple(dict.fromkeys(note for preference in findings.preferences for note in preference.clustered.notes))


def _order(contrast: Contrast) -> tuple[str, str]:
    if (contrast.estimate or 0.0) >= contrast.null:
        return contrast.first, contrast.second
    return contrast.second, contrast.first


def _together(contrast: Contrast) -> Contrast:
    """Return the contrast with its simultaneous interval and p, if it has them."""
    if contrast.p_simultaneous is None:
        return contrast
    return replace(contrast, p_adjusted=contrast.p_simultaneous, interval=contrast.simultaneous_interval)


def _difference(contrast: Contrast) -> str:
    decimals = decimals_for(contrast)
    text = f"{contrast.first} − {contrast.second}: {number(contrast.estimate or 0.0, decimals)}"
    if contrast.interval is not None:
        low, high = contrast.interval
        kind = "95 % CI" if contrast.p_simultaneous is None else "simultaneous 95 % CI"
        text += f" ({kind} {number(low, decimals)} to {number(high, decimals)})"
    return f"{text}."


def _votes(contrast: Contrast, first: str) -> str:
    if contrast.estimate is None:
        return "There are no votes."
    text = f"{first} got {percent(contrast.estimate)} of {counted(contrast.n, 'vote')}"
    if contrast.interval is None:
        return f"{text}. {' '.join(contrast.notes)}"
    backing = [f"{_interval(contrast)}, clustered", f"{_p('p', contrast.p_adjusted)} after Holm"]
    if contrast.p_equivalence_adjusted is not None and contrast.verdict != Verdict.DIFFERENT:
        backing.append(_p("equivalence p", contrast.p_equivalence_adjusted))
    return f"{text} ({'; '.join(backing)})."


def _interval(contrast: Contrast) -> str:
    if contrast.interval is None:
        return "no interval"
    low, high = contrast.interval
    return f"95 % CI {number(100 * low, 1)} to {number(100 * high, 1)}"


def _p(name: str, p: float | None) -> str:
    text = p_value(p)
    return f"{name} < {text[1:]}" if text.startswith("<") else f"{name} = {text}"


def _ties(ties: int) -> str:
    return counted(ties, "tie") if ties else "no ties"


def _who(findings: Findings) -> str:
    if not findings.simulated:
        return "People"
    return "Simulated participants" if not findings.data.real else "People and simulated participants"


def _list(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
