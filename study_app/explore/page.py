"""The page of `evalkit explore`: choose some comparisons, see their numbers, look at their images. Not for participants."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis.comparison_table import against_people, comparisons_of, part_of
from analysis.findings import Findings
from analysis.number_format import count, number
from analysis.report.sentences import metric_sentence, preference_sentence
from analysis.report.table import SIMULATED, ReportTable
from analysis.report.table_cells import mean_cell, share_cell
from analysis.report.table_registry import tables_of
from evalkit.plural import plural

PER_PAGE = 5
MOST_REFERENCES = 3
# Streamlit's own grey is too pale to read on either ground
CAPTIONS = """<style>
:root { --quiet: #5c5c60 } @media (prefers-color-scheme: dark) { :root { --quiet: #b3b3b8 } }
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] *,
[data-testid="stImageCaption"], [data-testid="stImageCaption"] * { color: var(--quiet) !important; opacity: 1 !important }
</style>"""
IN_ORDER, DISAGREEMENT = "order of the experiment", "disagreement among people"


@dataclass(frozen=True)
class Explored:
    """A run and everything that was computed from it."""

    found: Findings
    run: Path

    @cached_property
    def tables(self) -> dict[str, ReportTable]:
        """Return the report's tables by caption."""
        return {table.caption: table for table in tables_of(self.found)}

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Return one row per comparison."""
        return comparisons_of(self.found)


_explored: list[Explored] = []


def use(explored: Explored) -> None:
    """Make `explored` the run that the page shows."""
    _explored[:] = [explored]


def show() -> None:
    """Show the page."""
    explored = _explored[0]
    findings = explored.found
    st.set_page_config(page_title=f"{findings.data.name}: explore", layout="wide")
    st.html(CAPTIONS)
    st.title(findings.data.name)
    if findings.simulated:
        st.warning(SIMULATED)
    contrasts_tab, images_tab, tables_tab = st.tabs(["Comparisons", "Claims", "Tables"])
    with contrasts_tab:
        _comparisons(explored)
    with images_tab:
        for preference in findings.preferences:
            sentence = preference_sentence(preference, findings)
            st.markdown(f"**{sentence.headline}**  \n{sentence.detail}")
        for metric in findings.metrics:
            st.markdown(f"**{metric_sentence(metric).headline}**")
    with tables_tab:
        chosen = st.selectbox("Table", list(explored.tables), key="table")
        if chosen is not None:
            st.markdown(explored.tables[chosen].to_markdown())


def _comparisons(explored: Explored) -> None:
    """Show the chosen comparisons: their numbers, then their images, a page at a time."""
    findings = explored.found
    pairs = [f"{first} vs {second}" for first, second in findings.data.arm_pairs]
    if not pairs:
        st.info("This run has one arm only, so there is nothing to compare.")
        return
    with st.sidebar:
        pair = st.selectbox("Arms", pairs, key="pair")
        concepts = st.multiselect("Concepts, all of", sorted(findings.data.references), key="concepts")
        words = st.text_input("Prompt holds", key="words")
        judged = st.checkbox("Only where people disagree", key="disagree")
        order = st.selectbox("Sort by", _orders(explored), key="order")
    first, second = findings.data.arm_pairs[pairs.index(pair)] if pair in pairs else findings.data.arm_pairs[0]
    table = explored.comparisons
    table = table[(table["first"] == first) & (table["second"] == second)]
    prompts = {case.key: case.prompt for case in findings.data.cases}
    matches = [
        set(concepts) <= set(held) and words.lower() in prompts[case].lower()
        for case, held in zip(table["case"], table["concepts"], strict=True)
    ]
    table = table[pd.Series(matches, index=table.index, dtype=bool)]
    if judged:
        table = table[table["disagreement"] > 0]
    table = _sorted(findings, table, order or IN_ORDER)
    st.subheader(f"{plural(len(table), 'comparison')} of {first} and {second}")
    if table.empty:
        st.info("No comparison is like that.")
        return
    _numbers(findings, table, first, second)
    pages = -(-len(table) // PER_PAGE)
    page = int(st.number_input(f"Page, of {count(pages)}", 1, pages, 1, key="page"))
    for row in table.iloc[(page - 1) * PER_PAGE : page * PER_PAGE].to_dict("records"):
        _comparison(explored, row, prompts[row["case"]])


def _orders(explored: Explored) -> list[str]:
    metrics = [measured.metric for measured in explored.found.measured]
    orders = [IN_ORDER]
    if explored.comparisons["votes"].any():
        orders += [DISAGREEMENT, *(f"{metric} against people" for metric in metrics)]
    return [*orders, *(f"{metric}, first ahead" for metric in metrics), *(f"{metric}, second ahead" for metric in metrics)]


def _sorted(findings: Findings, table: pd.DataFrame, order: str) -> pd.DataFrame:
    if order == IN_ORDER:
        return table
    if order == DISAGREEMENT:
        by, ascending = table["disagreement"], False
    elif order.endswith(" against people"):
        by, ascending = against_people(findings, table, order.removesuffix(" against people")), False
    else:
        metric, _, side = order.rpartition(", ")
        by, ascending = table[metric], side == "second ahead"
    return table.loc[by.sort_values(ascending=ascending, kind="stable", na_position="last").index]


def _numbers(findings: Findings, table: pd.DataFrame, first: str, second: str) -> None:
    """Show what the functions of the report say of these comparisons alone."""
    part = part_of(findings, table, first, second)
    lines = []
    for result in part.numbers:
        name = f"votes for {first}" if result.measure == "votes" else f"{result.measure}, first − second"
        lines.append((name, (share_cell(result) if result.measure == "votes" else mean_cell(result)).text, count(result.n)))
    st.table(pd.DataFrame(lines, columns=["of these comparisons", "estimate [95 % CI]", "n"]).set_index("of these comparisons"))
    st.caption("Chosen after a look: good for ideas, not for claims. Claims are in the report, over all comparisons.")


def _comparison(explored: Explored, row: Mapping[Hashable, object], prompt: str) -> None:
    """Show one comparison: references, both images, votes and scores."""
    data = explored.found.data
    case, seed = str(row["case"]), int(str(row["seed"]))
    with st.container(border=True):
        st.markdown(f"**{case}, seed {seed}**")
        st.text(prompt)
        columns = st.columns([1, 2, 2])
        with columns[0]:
            for concept in dict(data.concepts_of)[case]:
                for path in data.references.get(concept, ())[:MOST_REFERENCES]:
                    _image(explored.run / path, concept)
        for column, side in zip(columns[1:], ("first", "second"), strict=True):
            with column:
                arm = str(row[side])
                _image(explored.run / data.images[case, arm, seed], f"{arm}: {row[f'for_{side}']} of {row['votes']} votes")
        leads = [
            f"{metric.metric} {number(float(str(row[metric.metric])), 3)}"
            for metric in explored.found.measured
            if row[metric.metric] == row[metric.metric]
        ]
        st.caption(f"{row['cannot_tell']} cannot tell. First − second: {', '.join(leads) or 'no scores'}")


def _image(path: Path, caption: str) -> None:
    if path.exists():
        st.image(str(path), caption=caption, alt=caption)
    else:
        st.caption(f"{caption} (file is gone)")
