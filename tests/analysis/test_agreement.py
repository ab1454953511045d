"""Agreement: published tables, and data that has none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.agreement import agreement, counts_of

# Fleiss 1971, table 1: 30 patients, six psychiatrists, five diagnoses
FLEISS = [
    "00060", "03003", "01401", "00006", "03030", "20400", "00402", "20310", "20040", "00006",
    "10050", "11040", "03300", "10050", "02031", "00501", "30012", "51000", "02040", "10203",
    "00006", "01050", "02013", "20040", "10041", "05010", "40002", "02040", "10500", "00006",
]  # fmt: skip


def krippendorff_table():
    """Return Krippendorff 2011, section C: four observers (rows), twelve units, `-` where missing."""
    rows = ("1.2.3.3.2.1.4.1.2.-.-.-", "1.2.3.3.2.2.4.1.2.5.-.3", "-.3.3.3.2.3.4.2.2.5.1.-", "1.2.3.3.2.4.4.1.2.5.1.-")
    pairs = [(unit, int(code) - 1) for row in rows for unit, code in enumerate(row.split(".")) if code != "-"]
    return counts_of(np.array([unit for unit, _ in pairs]), np.array([code for _, code in pairs]))


def test_fleiss_1971(gold):
    found = agreement(np.array([[int(digit) for digit in row] for row in FLEISS]))
    gold("fleiss_1971", found.kappa)
    gold("fleiss_1971_alpha", found.alpha)
    assert found.note == ""


def test_krippendorff_4x12(gold):
    found = agreement(krippendorff_table())
    gold("krippendorff_4x12", found.alpha)
    assert found.kappa is None
    assert "unequal" in found.note


def test_dyad_small(gold):
    frame = pd.read_csv(Path(__file__).parent / "gold" / "dyad_small.csv")
    found = agreement(counts_of(frame["case"].to_numpy(), frame["y"].to_numpy()))
    gold("small_fleiss", found.kappa)
    gold("small_alpha", found.alpha)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (np.zeros((0, 0), np.int64), "two participants"),
        (np.array([[1, 0], [0, 1]]), "two participants"),
        (np.array([[3, 0], [3, 0]]), "the same"),
    ],
)
def test_undefined_agreement_is_absent_and_said(table, says):
    found = agreement(table)
    assert found.kappa is None
    assert found.alpha is None
    assert says in found.note
