"""Tables of the folder `gold`, and the public data among them that several tests fit."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOLD = Path(__file__).parent / "gold"


def rows_of(name: str) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with (GOLD / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def columns_of(name: str) -> dict[str, NDArray[np.float64]]:
    """Return the columns of a table of numbers."""
    rows = rows_of(name)
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def verbal_aggression() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return whether each of 316 people said yes to each of 24 items: the answer, the person, the item; and the items."""
    columns = columns_of("verbagg")
    answers = np.column_stack(list(columns.values()))
    person, item = np.indices(answers.shape)
    return answers.ravel(), person.ravel(), item.ravel(), list(columns)
