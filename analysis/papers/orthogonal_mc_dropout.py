"""Tables 1 and 2 of Orthogonal Monte Carlo Dropout, as printed and with uncertainty.

Run it as `evalkit paper orthogonal_mc_dropout RUN [FOLDER]`. Copy it for your own design: everything it calls takes
and returns plain values.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from analysis.findings import Findings
from analysis.papers.script import main
from analysis.report.metric_tables import metric_contrasts, table_2, table_2_uncertainty
from analysis.report.study_tables import preference_table, similarity_table, table_1
from analysis.report.table import ReportTable


def parts(findings: Findings, run: Path) -> Iterator[ReportTable | None]:
    """Yield the paper's tables of a run, each followed by the same with its uncertainty."""
    yield table_1(findings)
    yield preference_table(findings)
    yield similarity_table(findings)
    yield table_2(findings)
    yield table_2_uncertainty(findings)
    yield metric_contrasts(findings)


if __name__ == "__main__":
    sys.exit(main("orthogonal_mc_dropout", parts, sys.argv[1:]))
