"""Tables 1 and 2 of Orthogonal Monte Carlo Dropout, as printed and with uncertainty.

Run it as `python -m analysis.papers.orthogonal_mc_dropout RUN`; it prints Markdown. Copy it for your own design: everything it
calls takes and returns plain values.
"""

import sys
from pathlib import Path

from analysis.data import read_run
from analysis.findings import analyze_run
from analysis.metric_tables import metric_contrasts, table_2, table_2_uncertainty
from analysis.study_tables import preference_table, similarity_table, table_1
from db.load import load_run
from db.session import default_url, open_database
from evalkit.errors import UserError
from evalkit.manifest import Manifest

TABLES = (table_1, preference_table, similarity_table, table_2, table_2_uncertainty, metric_contrasts)


def tables(run: Path) -> str:
    """Return the paper's tables of a run folder as Markdown."""
    Manifest.load(run)
    database = open_database(default_url(run))
    try:
        data = read_run(database, load_run(database, run).run_id)
    finally:
        database.close()
    found = analyze_run(data, margin=0.05, margin_scale="votes")
    return "\n".join(table.to_markdown() for table in (make(found) for make in TABLES) if table is not None)


def main(arguments: list[str]) -> int:
    """Print the tables of the run named on the command line; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m analysis.papers.orthogonal_mc_dropout RUN\n")
        return 2
    try:
        sys.stdout.write(tables(Path(arguments[0])))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
