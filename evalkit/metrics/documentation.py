"""The tables of docs/metrics.md, made from the registries: `python -m evalkit.metrics.documentation docs/metrics.md`."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from evalkit.metric_spec.metric_card import Needs
from evalkit.metrics import METRICS
from evalkit.metrics.models import known_sources
from evalkit.set_metrics import SET_METRICS

COMPARED_WITH: Mapping[Needs, str] = MappingProxyType(
    {
        "image": "nothing",
        "prompt": "its prompt, without modifier tokens",
        "references": "each reference of a concept",
        "text_image": "its prompt, in one model",
        "image_pair": "each reference of a concept, in one model",
        "concepts": "the references of each concept, by detected object",
        "other_arm": "the other arm's image at the same case and seed",
        "other_arm_pixels": "the other arm's image at the same case and seed",
        "other_seeds": "the images of its case and arm at the other seeds",
        "other_seeds_pixels": "the images of its case and arm at the other seeds",
        "all_seeds": "the images of its case and arm at all seeds, together",
    }
)


def metrics_table() -> str:
    """Return the table of all metrics of images."""
    rows = [
        (
            f"`{card.name}`", card.direction if card.direction != "none" else "–", COMPARED_WITH[card.needs],
            f"`{card.weights.name}`" if card.weights else "none", card.unit, "yes" if card.on_request else "", card.source,
        )
        for card in METRICS.values()
    ]  # fmt: skip
    return _table(("metric", "better", "compares an image with", "weights", "unit", "on request", "source"), rows)


def set_metrics_table() -> str:
    """Return the table of all metrics of sets of images; all of them are distances."""
    rows = [
        (f"`{card.name}`", card.summary, f"`{card.weights.name}`", card.unit, f"{card.least:,}", card.source)
        for card in SET_METRICS.values()
    ]
    return _table(("metric", "measures", "weights", "unit", "few, below", "source"), rows)


def weights_table() -> str:
    """Return the table of all models' weight files."""
    rows = []
    for name, source in known_sources().items():
        theirs = [f"{source.hub}: {' and '.join(file for file in source.files if '://' not in file)}"]
        files = [*(theirs if any("://" not in file for file in source.files) else []), *(f for f in source.files if "://" in f)]
        rows.append((f"`{name}`", ", and ".join(files), source.licence))
    return _table(("name", "files on the Hugging Face hub, or their address", "licence"), rows)


TABLES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {"metrics": metrics_table, "set metrics": set_metrics_table, "weights": weights_table}
)


def with_tables(page: str) -> str:
    """Return a page with the text between `<!-- table: NAME -->` and `<!-- end -->` regenerated.

    Raises:
        UserError: a table has no place on the page.
    """
    for name, make in TABLES.items():
        match = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
        if match is None:
            raise UserError(f"the page has no `<!-- table: {name} -->`; add it, followed by `<!-- end -->`")
        page = page[: match.start(1)] + make() + page[match.end(1) :]
    return page


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_atomic(target, with_tables(target.read_text(encoding="utf-8")))
