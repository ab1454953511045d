"""Output of scoring: tables of means and of weights, a JSON document, and what could not be scored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from evalkit.cli.console import print_json, print_table, stderr, stdout, table
from evalkit.plural import plural

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.run.score_table import ImageScore, RunScore
    from evalkit.scoring.pair_scorer import PairScores
    from evalkit.scoring.result import ScoringResult
    from evalkit.scoring.summary import MetricMean

CAPTION = "SE: standard error over images, as if they were independent; not for tests (`evalkit analyze` has those)"


def print_scores(scored: "ScoringResult[RunScore] | ScoringResult[ImageScore]", *, as_json: bool) -> None:
    """Print the results on standard output, and what could not be scored on standard error."""
    from evalkit.metric_spec.signature import displayed
    from evalkit.scoring.summary import summarise

    if as_json:
        print_json(_document(scored))
    else:
        means = summarise(scored.found)
        names = _names(means)
        _print_means(means, names)
        console = stdout()
        for line in (*(f"{name}: {displayed(signature)}" for (_, signature), name in names.items()), *_lines(scored)):
            console.print(line, markup=False)
    errors = stderr()
    for reason in scored.missing.values():
        errors.print(f"not run: {reason}", markup=False)
    if scored.not_run:
        errors.print(f"not run, because their weights are missing: {', '.join(scored.not_run)}", markup=False)
    for problem in scored.problems:
        errors.print(f"not scored: {problem.reason}", markup=False)


def print_pairs(scores: "PairScores", out: "Path | None", *, as_json: bool) -> None:
    """Print the mean of each metric over pairs, its signature, and images that have no counterpart or no score."""
    from statistics import fmean, stdev

    from evalkit.metric_spec.signature import displayed

    if as_json:
        print_json(
            {
                "scores": [asdict(row) for row in scores.rows],
                "unmatched": scores.unmatched,
                "problems": [asdict(problem) for problem in scores.problems],
                "notes": scores.notes,
            }
        )
    else:
        values: dict[str, list[float]] = {}
        for row in scores.rows:
            values.setdefault(row.metric, []).append(row.value)
        rows = [
            (name, f"{fmean(group):.4f}", f"{stdev(group) / len(group) ** 0.5:.4f}" if len(group) > 1 else "", str(len(group)))
            for name, group in values.items()
        ]
        print_table(table(("metric", "mean", "± SE", "n"), rows, names=4, title="Mean over pairs"))
        console = stdout()
        signatures = dict.fromkeys((row.metric, row.signature) for row in scores.rows)
        for line in (
            *(f"{name}: {displayed(signature)}" for name, signature in signatures),
            *(f"note: {note}" for note in scores.notes),
            f"{plural(len(scores), 'score')} {f'in {out}' if out else '(save them with --out FILE.parquet or --json)'}",
        ):
            console.print(line, markup=False)
    errors = stderr()
    for path in scores.unmatched:
        errors.print(f"not compared: {path} has no counterpart of the same name", markup=False)
    for problem in scores.problems:
        errors.print(f"not compared: {problem.reason}", markup=False)


def print_weights(located: Iterable[tuple[str, str, str]]) -> None:
    """Print a table of models, where their weights are and their sha256; then one line for each without weights."""
    rows, reasons = [], []
    for name, state, sha256 in located:
        word, _, reason = state.partition(": ")
        absent = word in ("missing", "wrong")
        rows.append((name, word if absent else state, sha256[:16]))
        if absent:
            reasons.append(f"{word}: {reason}")
    print_table(table(("weights", "location", "sha256"), rows))
    console = stdout()
    for line in reasons:
        console.print(line, markup=False)


def _names(means: "Sequence[MetricMean]") -> dict[tuple[str, str], str]:
    """Return how a metric with a signature is shown; a number tells several signatures of one metric apart."""
    keys = list(dict.fromkeys((mean.metric, mean.signature) for mean in means))
    recipes = {metric: [signature for name, signature in keys if name == metric] for metric, _ in keys}
    return {
        (metric, signature): metric if len(recipes[metric]) == 1 else f"{metric} ({recipes[metric].index(signature) + 1})"
        for metric, signature in keys
    }


def _print_means(means: "Sequence[MetricMean]", names: Mapping[tuple[str, str], str]) -> None:
    """Print a table with a line per metric and arm, or per metric for images that belong to no run."""
    arms = any(line.arm for line in means)
    headers = ("metric", *(["arm"] if arms else []), "mean", "± SE", "n")
    rows = []
    for line in means:
        error = f"{line.error:.4f}" if line.error is not None else ""
        name = names[line.metric, line.signature] + (", least concept" if line.least else "")
        rows.append((name, *([line.arm or ""] if arms else []), f"{line.mean:.4f}", error, str(line.n)))
    print_table(table(headers, rows, names=len(headers), title="Mean per arm" if arms else "Mean"))
    stdout().print(CAPTION, markup=False)


def _lines(scored: "ScoringResult[RunScore] | ScoringResult[ImageScore]") -> Iterator[str]:
    """Yield the work done, the notes, and where the rows are stored."""
    tally = scored.tally
    passes = ", ".join(f"{name} {count:,}" for name, count in tally.forwards.items() if count) or "none"
    cached = plural(sum(tally.found.values()), "feature")
    yield f"{plural(tally.decodes, 'image')} decoded; forward passes: {passes}; {cached} from the cache"
    for note in scored.notes:
        yield f"note: {note}"
    location = f"in {scored.path}" if scored.path else "(save them with --out FILE.parquet or --json)"
    yield f"{plural(len(scored.found), 'score')} {location}"


def _document(scored: "ScoringResult[RunScore] | ScoringResult[ImageScore]") -> dict[str, object]:
    """Return the JSON document."""
    from evalkit.scoring.summary import summarise

    return {
        "file": scored.path,
        "means": [asdict(line) for line in summarise(scored.found)],
        "scores": [asdict(row) for row in scored.found],
        "not_run": {"metrics": list(scored.not_run), "weights": scored.missing},
        "problems": [asdict(problem) for problem in scored.problems],
        "notes": scored.notes,
        "decodes": scored.tally.decodes,
        "forwards": scored.tally.forwards,
    }
