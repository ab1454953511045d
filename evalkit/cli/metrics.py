"""The command `evalkit metrics`: the list of metrics."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.console import Json

if TYPE_CHECKING:
    from evalkit.metric_spec.metric_card import MetricCard
    from evalkit.metric_spec.set_metric import SetMetric


HEAD = """# List of metrics

This page is generated from the registry by `evalkit metrics --markdown > docs/reference/metrics.md`.
[Metrics](../metrics.md) describes the recipes, and [Which metric should I report?](../which_metric.md) helps to choose.
`iqa:NAME` is any other no-reference metric of pyiqa.
"""


def metrics(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page of all metrics instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the metrics: direction, unit, what each is compared with, source and licence of the weights."""
    from evalkit.cli.console import print_json, print_table, stdout, table
    from evalkit.errors import UserError

    if markdown and as_json:
        raise UserError("metrics: --markdown and --json are two formats; give one")
    if markdown:
        typer.echo(page(), nl=False)
        return
    rows = _rows()
    if as_json:
        print_json(rows)
        return
    headers = ("metric", "better", "compared with", "unit")
    print_table(table(headers, [(row["name"], row["better"], row["compared_with"], row["unit"]) for row in rows]))
    console = stdout()
    for row in rows:
        console.print(f"{row['name']}: {row['summary']} Source: {row['source']}. Licence: {row['licence']}.", markup=False)


def page() -> str:
    """Return the reference page of the metrics that ship with evalkit."""
    from evalkit.metrics import METRICS

    rows = _rows(METRICS.values())
    lines = ["| metric | better | compared with | unit |", "|---|---|---|---|"]
    lines += [
        f"| [`{row['name']}`](#{row['name']}) | {row['better']} | {row['compared_with']} | {row['unit']} |" for row in rows
    ]
    for row in rows:
        lines += ["", f"## {row['name']}", "", row["summary"], "", f"- Source: {row['source']}", f"- Licence: {row['licence']}"]
    return HEAD + "\n" + "\n".join(lines) + "\n"


def _rows(cards: "Iterable[MetricCard] | None" = None) -> list[dict[str, str]]:
    """Return one row per metric: of the given cards, by default all installed ones, then the metrics of sets."""
    from evalkit.metrics.plugins import known_metrics
    from evalkit.set_metrics import SET_METRICS

    rows = [_image_metric(card) for card in (known_metrics().values() if cards is None else cards)]
    return rows + [_set_metric(metric) for metric in SET_METRICS.values()]


def _image_metric(card: "MetricCard") -> dict[str, str]:
    other = "nothing" if card.needs == "image" else card.needs.replace("_", " ")
    return {**_shared(card), "compared_with": other, "command": "score"}


def _set_metric(metric: "SetMetric") -> dict[str, str]:
    return {**_shared(metric), "compared_with": "another set (evalkit sets)", "command": "sets"}


def _shared(metric: "MetricCard | SetMetric") -> dict[str, str]:
    return {
        "name": metric.name,
        "better": metric.direction,
        "unit": metric.unit,
        "summary": metric.summary,
        "source": metric.source,
        "licence": metric.licence,
    }
