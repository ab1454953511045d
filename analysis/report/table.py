"""Report table: one object, written as Markdown, LaTeX, HTML and CSV with the same numbers in each.

pandas' Styler leaves captions and headings unescaped in LaTeX, and great_tables drops bold there; hence our own renderers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from analysis.contrast import Contrast
from analysis.titles import Titles

Value = float | int | str | None

SIMULATED = "Simulated: these judgments were made by simulated participants, not by people."


@dataclass(frozen=True, slots=True)
class TableCell:
    """The text of a cell, and the unrounded values behind it by name (`""` is the main one)."""

    text: str
    values: tuple[tuple[str, Value], ...] = ()
    bold: bool = False
    underlined: bool = False
    contrast: Contrast | None = None
    """The contrast that the cell prints, if any; the CSV file has all of its numbers."""


@dataclass(frozen=True, slots=True)
class Column:
    """The heading of a column, whether it holds words or numbers, and the arm it is about, if it is about one."""

    heading: str
    kind: Literal["words", "numbers"] = "numbers"
    arm: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table with a caption and footnotes. The first column names the rows."""

    name: str
    """Of its files, and the LaTeX label."""
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[str, ...] = ()
    simulated: bool = False
    """Whether judgments of simulated participants are in it; every format then says so."""
    recipes: tuple[tuple[str, str], ...] = ()
    """Name and signature of every metric in the table; Markdown and CSV have them, the page and papers have a table of them."""

    titles: Titles = field(default_factory=Titles)
    """What ids are printed as; the CSV file has the ids."""

    @property
    def full_caption(self) -> str:
        """Return the caption, led by a warning where judgments were simulated."""
        return f"[simulated judgments] {self.caption}" if self.simulated else self.caption

    @property
    def full_notes(self) -> tuple[str, ...]:
        """Return the footnotes, the mark of simulated judgments first."""
        return ((SIMULATED,) if self.simulated else ()) + self.notes

    def to_markdown(self) -> str:
        """Return the table as GitHub Markdown, its caption above and its notes below."""
        head = "| " + " | ".join(_markdown(column.heading) for column in self.columns) + " |"
        rule = "|" + "|".join("---" if column.kind == "words" else "---:" for column in self.columns) + "|"
        body = ["| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in self.rows]
        notes = [f"- {_markdown(note)}" for note in self.full_notes]
        notes += [f"- {_markdown(metric)}: {_markdown(signature)}" for metric, signature in self.recipes]
        return "\n".join([f"**{_markdown(self.full_caption)}**", "", head, rule, *body, "", *notes]).rstrip() + "\n"

    def to_latex(self) -> str:
        """Return the table as LaTeX; its preamble is `analysis.report.table_latex.PREAMBLE`."""
        from analysis.report.table_latex import latex_of

        return latex_of(self)

    def to_html(self, number: int | None = None) -> str:
        """Return the table as HTML: a caption, headings with their scope, notes below; everything escaped.

        With its `number` on the page, the caption begins with it and links to the table's files follow.
        """
        head = "".join(f'<th scope="col" class="{column.kind}">{escape(column.heading)}</th>' for column in self.columns)
        body = "\n".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        lead = f"<b>Table {number}.</b> " if number is not None else ""
        links = "" if number is None else file_links("tables", self.name, ("csv", "tex", "md", "html"))
        mark = f'<p class="simulated">{escape(SIMULATED)}</p>' if self.simulated else ""
        table = (
            f'<div class="scroll"><table><caption>{lead}{escape(self.full_caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )
        listed = f'<ul class="notes">{notes}</ul>\n' if notes else ""
        return f'<figure class="table" id="{escape(self.name)}">\n{mark}{table}\n{listed}{links}</figure>\n'

    def _html_row(self, row: tuple[TableCell, ...]) -> str:
        parts = []
        for position, (column, cell) in enumerate(zip(self.columns, row, strict=True)):
            text = f"<u>{escape(cell.text)}</u>" if cell.underlined else escape(cell.text)
            text = f"<strong>{text}</strong>" if cell.bold else text
            open_tag, close_tag = ('<th scope="row"', "</th>") if position == 0 else ("<td", "</td>")
            parts.append(f'{open_tag} class="{column.kind}">{text}{close_tag}')
        return "".join(parts)

    def to_csv(self) -> str:
        """Return the table as data: one row per estimate, unrounded, with the columns of `analysis.report.table_data`."""
        from analysis.report.table_data import csv_of

        return csv_of(self)

    def files(self) -> dict[str, str]:
        """Return the content of the table's four files by name."""
        return {
            f"{self.name}.md": self.to_markdown(),
            f"{self.name}.tex": self.to_latex(),
            f"{self.name}.html": self.to_html(),
            f"{self.name}.csv": self.to_csv(),
        }


def file_links(folder: str, name: str, kinds: Iterable[str]) -> str:
    """Return a line of HTML links to the files of a table or figure, relative to the report."""
    links = " ".join(f'<a href="{folder}/{escape(name)}.{kind}">{kind}</a>' for kind in kinds)
    return f'<p class="files">files: {links}</p>\n'


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)
    return escaped.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _markdown_cell(cell: TableCell) -> str:
    text = _markdown(cell.text)
    text = f"<ins>{text}</ins>" if cell.underlined and text else text
    return f"**{text}**" if cell.bold and text else text
