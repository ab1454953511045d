"""A table: one object, written as Markdown, LaTeX, HTML and CSV with the same numbers in each.

The known renderers fail us: pandas' Styler leaves captions and headers unescaped in LaTeX, great_tables drops bold there.
"""

import csv
import io
import re
from dataclasses import dataclass
from html import escape
from typing import Literal

Value = float | int | str | None

SIMULATED = "Simulated: these judgments were made by simulated participants, not by people."

# What LaTeX reads as a command, and signs that its plain fonts lack.
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": "--", "—": "---", "…": r"\ldots{}", "α": r"$\alpha$", "κ": r"$\kappa$", "≤": r"$\le$", "≥": r"$\ge$", "τ": r"$\tau$",
    "δ": r"$\delta$", "\u202f": "~", "\u00a0": "~",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableCell:
    """What stands in a cell: its text, and the unrounded values behind it by name (CSV columns; `""` is the main one)."""

    text: str
    values: tuple[tuple[str, Value], ...] = ()
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading and whether it holds words or numbers."""

    heading: str
    kind: Literal["words", "numbers"] = "numbers"


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
        return "\n".join([f"**{_markdown(self.full_caption)}**", "", head, rule, *body, "", *notes]).rstrip() + "\n"

    def to_latex(self) -> str:
        """Return the table as LaTeX (needs booktabs), everything escaped."""
        align = "".join("l" if column.kind == "words" else "r" for column in self.columns)
        lines = [
            r"\begin{table}[tb]", r"\centering", rf"\caption{{{_latex(self.full_caption)}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9-]', '-', self.name.lower())}}}", rf"\begin{{tabular}}{{{align}}}", r"\toprule",
            " & ".join(_latex(column.heading) for column in self.columns) + r" \\", r"\midrule",
            *(" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in self.rows),
            r"\bottomrule", r"\end{tabular}",
        ]  # fmt: skip
        if self.full_notes:
            lines.append(r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize")
            lines += [rf"{_latex(note)}\par" for note in self.full_notes]
            lines.append(r"\end{minipage}")
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def to_html(self) -> str:
        """Return the table as HTML: a caption, headings with their scope, notes below; everything escaped."""
        head = "".join(f'<th scope="col" class="{column.kind}">{escape(column.heading)}</th>' for column in self.columns)
        body = "\n".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        mark = f'<p class="simulated">{escape(SIMULATED)}</p>' if self.simulated else ""
        table = (
            f'<div class="scroll"><table><caption>{escape(self.full_caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )
        return f'<figure class="table" id="{escape(self.name)}">\n{mark}{table}\n' + (
            f'<ul class="notes">{notes}</ul>\n</figure>\n' if notes else "</figure>\n"
        )

    def _html_row(self, row: tuple[TableCell, ...]) -> str:
        parts = []
        for place, (column, cell) in enumerate(zip(self.columns, row, strict=True)):
            text = f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
            open_tag, close_tag = ('<th scope="row"', "</th>") if place == 0 else ("<td", "</td>")
            parts.append(f'{open_tag} class="{column.kind}">{text}{close_tag}')
        return "".join(parts)

    def to_csv(self) -> str:
        """Return the unrounded values as CSV, one column per value; a last column says whose judgments they are."""
        names = [
            list(dict.fromkeys(name for row in self.rows for name, _ in row[place].values)) or [""]
            for place in range(len(self.columns))
        ]
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        heading = [
            f"{column.heading} {name}".strip() for column, held in zip(self.columns, names, strict=True) for name in held
        ]
        writer.writerow([*heading, "simulated"])
        for row in self.rows:
            values: list[Value] = []
            for cell, held in zip(row, names, strict=True):
                known = dict(cell.values) if cell.values else {"": cell.text}
                values += [known.get(name) for name in held]
            writer.writerow([*("" if value is None else _csv(value) for value in values), "yes" if self.simulated else "no"])
        return stream.getvalue()

    def files(self) -> dict[str, str]:
        """Return the content of the table's four files by name."""
        return {
            f"{self.name}.md": self.to_markdown(),
            f"{self.name}.tex": self.to_latex(),
            f"{self.name}.html": self.to_html(),
            f"{self.name}.csv": self.to_csv(),
        }


def _csv(value: float | int | str) -> str:
    """Return a value in full; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    return repr(value)


def _markdown(text: str) -> str:
    kept = re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)
    return kept.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _markdown_cell(cell: TableCell) -> str:
    text = _markdown(cell.text)
    return f"**{text}**" if cell.bold and text else text


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text.replace("\n", " "))


def _latex_cell(cell: TableCell) -> str:
    text = _latex(cell.text)
    # a cell that begins with a bracket would be read as the optional argument of the \\ before it
    text = f"{{}}{text}" if text.startswith("[") else text
    return rf"\textbf{{{text}}}" if cell.bold and text else text
