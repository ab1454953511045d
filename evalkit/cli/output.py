"""What is seen after scoring: a table with means for a person, JSON for a program."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

if TYPE_CHECKING:
    from evalkit.run.score_table import ImageScore, RunScore
    from evalkit.scoring.result import ScoringResult
    from evalkit.scoring.summary import MetricMean

CAPTION = "SE: standard error over images, as if they were independent; for a look, not for tests (evalkit analyze has those)"


def out() -> Console:
    """Return where results go; lines are never cut in the middle."""
    return Console(soft_wrap=True)


def bar() -> Progress:
    """Return a progress bar on standard error, with what is done and left; it leaves nothing behind on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True, soft_wrap=True), transient=True)


def step(shown: Progress, what: str) -> Callable[[int, int], None]:
    """Return what moves the bar to `done` of `total`."""
    task = shown.add_task(what, total=None)

    def move(done: int, total: int) -> None:
        shown.update(task, completed=done, total=total)

    return move


def show(scored: "ScoringResult[RunScore] | ScoringResult[ImageScore]", *, as_json: bool) -> None:
    """Print what scoring gave: results on standard output, what could not be scored on standard error."""
    from evalkit.scoring.summary import summarise

    console = out()
    if as_json:
        console.out(json.dumps(_document(scored), indent=1, allow_nan=False), highlight=False)
    else:
        means = summarise(scored.found)
        names = _names(means)
        console.print(_table(means, names))
        for line in (*(f"{name}: {signature}" for (_, signature), name in names.items()), *_lines(scored)):
            console.print(line, markup=False, highlight=False)
    loud = Console(stderr=True, soft_wrap=True)
    for reason in scored.missing.values():
        loud.print(f"not run: {reason}", markup=False)
    if scored.not_run:
        loud.print(f"not run for want of weights: {', '.join(scored.not_run)}", markup=False)
    for problem in scored.problems:
        loud.print(f"not scored: {problem.reason}", markup=False)


def show_weights(console: Console, found: Iterable[tuple[str, str, str]]) -> None:
    """Print a table of models, where their weights are and their sha256; below it a whole line for each that lacks them."""
    table = Table("weights", Column("here", overflow="fold"), "sha256")
    lacking = []
    for name, state, sha256 in found:
        word, _, reason = state.partition(": ")
        absent = word in ("missing", "wrong")
        table.add_row(name, word if absent else state, sha256[:16])
        if absent:
            lacking.append(f"{word}: {reason}")
    console.print(table)
    for line in lacking:
        console.print(line, markup=False, highlight=False)


def _names(means: "Sequence[MetricMean]") -> dict[tuple[str, str], str]:
    """Return how a metric under a signature is called: where it has several, they are told apart by a number."""
    keys = list(dict.fromkeys((mean.metric, mean.signature) for mean in means))
    recipes = {metric: [signature for name, signature in keys if name == metric] for metric, _ in keys}
    return {
        (metric, signature): metric if len(recipes[metric]) == 1 else f"{metric} ({recipes[metric].index(signature) + 1})"
        for metric, signature in keys
    }


def _table(means: "Sequence[MetricMean]", names: Mapping[tuple[str, str], str]) -> Table:
    """Return the means: a line per metric and arm, or per metric where pictures belong to no run."""
    arms = any(line.arm for line in means)
    table = Table(
        "metric", *(["arm"] if arms else []), "mean", "± SE", "n", title="Mean per arm" if arms else "Mean", caption=CAPTION
    )
    for line in means:
        error = f"{line.error:.4f}" if line.error is not None else ""
        name = names[line.metric, line.signature] + (", least concept" if line.least else "")
        table.add_row(name, *([line.arm] if arms else []), f"{line.mean:.4f}", error, str(line.n))
    return table


def _lines(scored: "ScoringResult[RunScore] | ScoringResult[ImageScore]") -> Iterator[str]:
    """Yield what it took, what was noted, and where the rows are."""
    tally = scored.tally
    passes = ", ".join(f"{name} {count}" for name, count in tally.forwards.items() if count) or "none"
    found = sum(tally.found.values())
    yield f"{tally.decodes} pictures decoded; forward passes: {passes}; {found} features were there already"
    for note in scored.notes:
        yield f"note: {note}"
    place = f"in {scored.path}" if scored.path else "(--out FILE.parquet or --json keeps them)"
    yield f"{len(scored.found)} scores {place}"


def _document(scored: "ScoringResult[RunScore] | ScoringResult[ImageScore]") -> dict[str, object]:
    """Return all that scoring gave as what JSON can hold."""
    from evalkit.scoring.summary import summarise

    return {
        "file": str(scored.path) if scored.path else None,
        "means": [asdict(line) for line in summarise(scored.found)],
        "scores": [asdict(row) for row in scored.found],
        "not_run": {"metrics": list(scored.not_run), "weights": scored.missing},
        "problems": [asdict(problem) for problem in scored.problems],
        "notes": scored.notes,
        "decodes": scored.tally.decodes,
        "forwards": scored.tally.forwards,
    }
