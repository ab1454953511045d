"""CSV of a report table as data: one row per estimate.

Columns: `quantity` (what is estimated, as the table's heading names it), the words that identify the row, then `metric`,
`direction` (higher, lower, none), `unit`, `arm`, `other_arm`, `estimate`, `low` and `high` (95 %), `p`, `p_corrected` (Holm),
`p_equivalence`, `margin`, `verdict`, `n`, `clusters`, `scope` (what the estimate holds for other ones of), `test`,
`signature` (the metric's recipe), `simulated`.
An empty field means that the number does not exist or does not apply.
"""

import csv
import io
from collections.abc import Mapping

from analysis.contrast import Contrast
from analysis.report.table import Column, ReportTable, TableCell, Value

FIELDS = (
    "metric", "direction", "unit", "arm", "other_arm", "estimate", "low", "high", "p", "p_corrected", "p_equivalence", "margin",
    "verdict", "n", "clusters", "scope", "test", "signature",
)  # fmt: skip
COUNTS = ("n", "votes", "participants", "concept sets", "comparisons judged twice or more", "images per method")


def csv_of(table: ReportTable) -> str:
    """Return the table's estimates as CSV."""
    keys = [key for key in dict.fromkeys(name for row in table.rows for name in _words(table, row)) if key not in FIELDS]
    recipes = dict(table.recipes)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["quantity", *keys, *FIELDS, "simulated"], lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for record in estimates(table, row):
            simulated = "yes" if table.simulated else "no"
            record["signature"] = recipes.get(str(record.get("metric")), record.get("signature"))
            (with_ids,) = table.titles.with_ids([record])
            writer.writerow({name: _text(value) for name, value in with_ids.items()} | {"simulated": simulated})
    return stream.getvalue()


def estimates(table: ReportTable, row: tuple[TableCell, ...]) -> list[dict[str, Value]]:
    """Return one record for each estimate of a row; a row without any gives one record of its words."""
    words = _words(table, row)
    shared: dict[str, Value] = {}
    records: list[dict[str, Value]] = []
    contrasts = any(cell.contrast is not None for cell in row)
    for column, cell in zip(table.columns, row, strict=True):
        if column.kind == "words":
            continue
        heading = column.heading.split(" [")[0]
        own: dict[str, Value] = {"quantity": "mean", "arm": column.arm} if column.arm else {"quantity": heading}
        if cell.contrast is not None:
            records.append(own | _of_contrast(cell.contrast, words))
        elif heading == "p" or heading.startswith("p "):
            if not contrasts:
                shared["p_corrected" if "Holm" in heading else "p"] = dict(cell.values).get("")
        elif heading in COUNTS:
            shared["n"] = dict(cell.values).get("")
        else:
            records += [own | part for part in _of_values(cell)]
    return [words | shared | _present(record) for record in records] or [words | shared]


def _present(record: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in record.items() if value is not None}


def _words(table: ReportTable, row: tuple[TableCell, ...]) -> dict[str, Value]:
    """Return what identifies a row: named values of its words, other words by their heading."""
    words: dict[str, Value] = {}
    for column, cell in zip(table.columns, row, strict=True):
        named = {name: value for name, value in cell.values if name}
        if column.kind == "words":
            words |= named or {_key(column): cell.text}
    return words


def _key(column: Column) -> str:
    return {"": "row", "holds for other": "scope"}.get(column.heading, column.heading.replace(" ", "_"))


def _of_contrast(contrast: Contrast, words: Mapping[str, Value]) -> dict[str, Value]:
    low, high = contrast.interval if contrast.interval is not None else (None, None)
    tested = contrast.p is not None or contrast.p_equivalence is not None
    return {
        "metric": words.get("metric") or (None if contrast.measure in ("votes", "outcomes") else contrast.measure),
        "unit": contrast.scale,
        "arm": contrast.first,
        "other_arm": contrast.second,
        "estimate": contrast.estimate,
        "low": low,
        "high": high,
        "p": contrast.p,
        "p_corrected": contrast.p_adjusted,
        "p_equivalence": contrast.p_equivalence if contrast.p_equivalence_adjusted is None else contrast.p_equivalence_adjusted,
        "margin": contrast.margin,
        "verdict": str(contrast.verdict) if tested else None,
        "n": contrast.n,
        "clusters": "; ".join(f"{size} {name}" for name, size in contrast.clusters),
        "scope": "; ".join(contrast.scope),
        "test": contrast.test,
    }


def _of_values(cell: TableCell) -> list[dict[str, Value]]:
    values = dict(cell.values)
    if "" in values:
        return [{"estimate": values[""], "low": values.get("low"), "high": values.get("high")}]
    if set(values) == {"low", "high"}:
        return [dict(values)]
    return [{"quantity": name, "estimate": value} for name, value in values.items()]


def _text(value: object) -> str:
    """Return a value in full; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value) else value
    # numpy's floats print their type too
    return repr(float(value)) if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
