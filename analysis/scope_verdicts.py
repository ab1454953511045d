"""The verdict of every contrast for every scope, one row each."""

from collections.abc import Iterator

from analysis.contrast import Contrast, ScopedResult
from analysis.findings import Findings


def scope_verdicts(findings: Findings) -> list[dict[str, object]]:
    """Return one row per tested contrast and scope: arms, measure, scope, verdict, interval, p-values as they were corrected.

    The first row of a contrast has the scope of the contrast itself, which tables print.
    """
    return [row for contrast in _tested(findings) for row in _rows(contrast)]


def _tested(findings: Findings) -> Iterator[Contrast]:
    for preference in findings.preferences:
        yield preference.clustered
    for metric in findings.metrics:
        yield from metric.contrasts
    if findings.several is not None:
        yield from (*findings.several.differences, *findings.several.strength_contrasts)


def _rows(contrast: Contrast) -> Iterator[dict[str, object]]:
    if contrast.p is None and contrast.p_equivalence is None:
        return
    about = {"first": contrast.first, "second": contrast.second, "measure": contrast.measure, "scale": contrast.scale,
             "estimate": contrast.estimate}  # fmt: skip
    parts: tuple[Contrast | ScopedResult, ...] = (contrast, *contrast.scopes)
    for part in parts:
        yield about | {
            "scope": list(part.scope), "verdict": str(part.verdict), "interval": part.interval, "p": part.p,
            "p_adjusted": part.p_adjusted, "p_equivalence": part.p_equivalence,
            "p_equivalence_adjusted": part.p_equivalence_adjusted,
        }  # fmt: skip
