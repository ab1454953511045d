"""The command `evalkit metrics`: the list of metrics."""

from typing import TYPE_CHECKING

from evalkit.cli.console import Json

if TYPE_CHECKING:
    from evalkit.metric_spec.metric_card import MetricCard
    from evalkit.metric_spec.set_metric import SetMetric


def metrics(as_json: Json = False) -> None:
    """List the metrics: direction, unit, what each is compared with, source and licence of the weights."""
    from evalkit.cli.console import print_json, print_table, stdout, table
    from evalkit.metrics.plugins import known_metrics
    from evalkit.set_metrics import SET_METRICS

    rows = [_image_metric(card) for card in known_metrics().values()]
    rows += [_set_metric(metric) for metric in SET_METRICS.values()]
    if as_json:
        print_json(rows)
        return
    headers = ("metric", "better", "compared with", "unit")
    print_table(table(headers, [(row["name"], row["better"], row["compared_with"], row["unit"]) for row in rows]))
    console = stdout()
    for row in rows:
        console.print(f"{row['name']}: {row['summary']} Source: {row['source']}. Licence: {row['licence']}.", markup=False)


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
