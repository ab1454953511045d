"""The check at the door of every analysis: numbers are finite, and rows are as many as they have labels."""

from collections.abc import Sized

import numpy as np

from analysis.inference.concept_sets import Floats
from evalkit.errors import UserError


def check_finite(where: str, values: Floats, what: str = "value") -> None:
    """Raise a UserError that names the first of `values` that is not a finite number; `values` is of any shape."""
    finite = np.isfinite(values)
    if finite.all():
        return
    place = np.unravel_index(int(np.argmin(finite)), np.shape(values))
    row = int(place[0]) + 1 if place else 1
    column = f", column {int(place[1]) + 1}" if len(place) > 1 else ""
    raise UserError(f"{where}: {what} {row}{column} is {values[place]}; leave such rows out, or give finite numbers")


def check_rows(where: str, rows: int, **columns: Sized | None) -> None:
    """Raise a UserError unless every column that is given has `rows` rows."""
    for name, column in columns.items():
        if column is not None and len(column) != rows:
            raise UserError(f"{where}: {rows} rows, but {len(column)} in {name}; give one value per row")
