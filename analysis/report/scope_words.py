"""Verdicts with their scope in words: "different for these 4 pairs; for other concepts: not shown"."""

from analysis.contrast import Contrast, ScopedResult, Verdict


def scoped_verdict(contrast: Contrast) -> str:
    """Return the verdict as a table prints it: with its scope if cases or participants are fixed, and the widest one's."""
    fixed = _fixed(contrast, contrast.scope)
    if not fixed:
        return str(contrast.verdict)
    return f"{contrast.verdict} for {fixed}{_wider(contrast)}"


def scope_suffix(contrast: Contrast) -> str:
    """Return what a headline adds in brackets if cases or participants are fixed; empty if not."""
    fixed = _fixed(contrast, contrast.scope)
    return f" (for {fixed}{_wider(contrast)})" if fixed else ""


def narrower_sentence(contrast: Contrast) -> str:
    """Return what holds for a narrower scope than the verdict's own, if that is more; else an empty string."""
    for scoped in contrast.scopes:
        if set(scoped.scope) < set(contrast.scope) and scoped.verdict not in (contrast.verdict, Verdict.INCONCLUSIVE):
            return f"For {_fixed(contrast, scoped.scope)} alone: {scoped.verdict}."
    return ""


def _fixed(contrast: Contrast, scope: tuple[str, ...]) -> str:
    """Return what is fixed in a scope: these cases, these participants, both, or nothing."""
    if not scope:
        return ""
    sizes = dict(contrast.clusters)
    words = []
    if "concepts" not in scope and "concepts" in sizes:
        level, size = next(((level, size) for level, size in contrast.clusters[1:2]), ("cases", 0))
        words.append("this case" if level == "comparisons" or size < 2 else f"these {size} {level}")
    if "participants" not in scope and "participants" in sizes:
        people = sizes["participants"]
        words.append("this participant" if people == 1 else f"these {people} participants")
    return " and ".join(words)


def _wider(contrast: Contrast) -> str:
    wider = [scoped for scoped in contrast.scopes if set(scoped.scope) > set(contrast.scope)]
    names = {"concepts": "other concepts", "participants": "other people"}
    lacks = [words for level, words in names.items() if level not in contrast.scope and level in dict(contrast.clusters)]
    widest = max(wider, key=lambda scoped: len(scoped.scope), default=None)
    return f"; for {' and '.join(lacks)}: {_shown(widest)}"


def _shown(scoped: ScopedResult | None) -> str:
    if scoped is None:
        return "cannot be estimated"
    return "not shown" if scoped.verdict == Verdict.INCONCLUSIVE else str(scoped.verdict)
