"""LaTeX of a report table: narrow, wrapped, and scaled as a last resort, so that it fits one column or the page.

Preamble: `\\usepackage{array,booktabs,graphicx}`. Latin and Greek letters, arrows and quotes compile with pdflatex; Chinese,
Japanese and Korean names need xelatex with `\\usepackage{xeCJK}` and a font that has them.
"""

import re
import unicodedata
from dataclasses import dataclass

from analysis.report.table import Column, ReportTable, TableCell

PREAMBLE = r"\usepackage{array,booktabs,graphicx}"
# Characters of \footnotesize that fit into a column of a two-column page, and across a page of one column.
COLUMN_CHARACTERS, PAGE_CHARACTERS = 54, 82
GAP = 2
# Width of a character of the upright font, in em; its widest letters are wider.
EM = 0.56
# A longer token may break after this many characters.
LONGEST_TOKEN = 12

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_\allowbreak{}", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\ensuremath{<}", ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}\allowbreak{}", "/": r"/\allowbreak{}", '"': "''", "“": "``", "”": "''", "„": ",,", "‘": "`", "’": "'",
    "‚": ",", "–": "--", "—": "---", "…": r"\ldots{}", "\u202f": "~", "\u00a0": "~", "\u2009": r"\,", "•": r"\textbullet{}",
    "²": r"\ensuremath{^2}", "³": r"\ensuremath{^3}", "°": r"\ensuremath{^\circ}", "·": r"\ensuremath{\cdot}", "€": "EUR",
    "′": r"\ensuremath{'}", "\u2010": "-", "\u2011": "-", "\u200b": "", "\u00ad": "",
}  # fmt: skip
_MATH = {
    "−": "-", "±": r"\pm", "×": r"\times", "÷": r"\div", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty",
    "√": r"\surd", "∑": r"\sum", "∈": r"\in", "∆": r"\Delta", "µ": r"\mu", "↑": r"\uparrow", "↓": r"\downarrow",
    "→": r"\rightarrow", "←": r"\leftarrow", "↔": r"\leftrightarrow", "⇒": r"\Rightarrow", "⇐": r"\Leftarrow",
    "⇔": r"\Leftrightarrow", "↦": r"\mapsto", "✓": r"\surd",
}  # fmt: skip
# Capital letters that look like Latin ones have no separate command.
_GREEK_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
_GREEK_NAMES = {"FINAL SIGMA": "varsigma", "LAMDA": "lambda"}


def latex_of(table: ReportTable) -> str:
    """Return the table as LaTeX: a float for one column if it fits, else for the whole width of the page."""
    layout = _layout(table)
    star = "*" if layout.characters > COLUMN_CHARACTERS else ""
    align = "".join(layout.align)
    lines = [
        rf"\begin{{table{star}}}[tb]", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape(table.full_caption)}}}", rf"\label{{tab:{re.sub('[^a-z0-9-]', '-', table.name.lower())}}}",
        rf"\sbox0{{\begin{{tabular}}{{@{{}}{align}@{{}}}}", r"\toprule",
        " & ".join(_heading(column, side) for column, side in zip(table.columns, layout.align, strict=True)) + r" \\",
        r"\midrule",
        *(
            " & ".join(_cell(cell, stacked) for cell, stacked in zip(row, layout.stacked, strict=True)) + r" \\"
            for row in table.rows
        ),
        r"\bottomrule", r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
    ]  # fmt: skip
    if table.full_notes:
        lines.append(r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize\raggedright")
        lines += [rf"{escape(note)}\par" for note in table.full_notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, rf"\end{{table{star}}}"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the columns of a table are set: alignment, whether intervals go below values, and the width of all in characters."""

    align: tuple[str, ...]
    stacked: tuple[bool, ...]
    characters: int


def _layout(table: ReportTable) -> _Layout:
    """Return a layout that fits the page: headings in lines first, then intervals below values, then wrapped words."""
    cells = [[row[index].text for row in table.rows] for index in range(len(table.columns))]
    heads = [_heading_width(column.heading) for column in table.columns]
    natural = [max([head, *map(_length, texts)]) for head, texts in zip(heads, cells, strict=True)]
    gaps = GAP * (len(natural) - 1)
    stacked = [False] * len(natural)
    widths = list(natural)
    if sum(widths) + gaps > COLUMN_CHARACTERS:
        for index, texts in enumerate(cells):
            if any(" [" in text for text in texts):
                parts = [part for text in texts for part in text.split(" [", 1)]
                stacked[index] = True
                widths[index] = max([heads[index], *(_length(part) + 1 for part in parts)])
    align = ["l" if column.kind == "words" else "r" for column in table.columns]
    room = PAGE_CHARACTERS - gaps - sum(width for width, side in zip(widths, align, strict=True) if side == "r")
    words = [index for index, side in enumerate(align) if side == "l"]
    if words and sum(widths[index] for index in words) > room:
        least = [
            max(_longest_piece(text) for text in (column.heading, *texts))
            for column, texts in zip(table.columns, cells, strict=True)
        ]
        for index, width in _shared(widths, least, words, room).items():
            if width < widths[index]:
                widths[index] = width
                align[index] = rf">{{\raggedright\arraybackslash}}p{{{EM * width:.1f}em}}"
    return _Layout(tuple(align), tuple(stacked), sum(widths) + gaps)


def _longest_piece(text: str) -> int:
    """Return the length of the longest piece of a text that has no place to break."""
    pieces = [piece for token in text.split() for piece in re.split(r"(?<=[_/|])", token)]
    return max([_length(piece) if len(piece) <= 2 * LONGEST_TOKEN else LONGEST_TOKEN + 1 for piece in pieces], default=0)


def _shared(widths: list[int], least: list[int], places: list[int], room: int) -> dict[int, int]:
    """Return widths for some columns that fit the room: narrow columns keep theirs, the others share what is left."""
    left, result = room, {}
    for done, index in enumerate(sorted(places, key=lambda index: widths[index])):
        result[index] = max(least[index], min(widths[index], left // (len(places) - done)))
        left -= result[index]
    return result


def _length(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _heading_lines(heading: str) -> list[str]:
    """Return a heading in lines: an explanation in brackets apart, and what is long in two or three."""
    lines = []
    for part in re.split(r" (?=[\[(])", heading):
        words, most = part.split(" "), max(12, -(-len(part) // 3))
        line = ""
        for word in words:
            if line and len(line) + 1 + len(word) > most:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines


def _heading_width(heading: str) -> int:
    return max(_length(line) for line in _heading_lines(heading))


def _heading(column: Column, align: str) -> str:
    # a column that wraps its words wraps its heading too
    lines = _heading_lines(column.heading) if align in ("l", "r") else [column.heading]
    return _stack(lines, "l" if column.kind == "words" else "r", "b") if len(lines) > 1 else escape(lines[0])


def _stack(lines: list[str], side: str, anchor: str) -> str:
    text = r"\\{}".join(escape(line) for line in lines)
    return rf"\begin{{tabular}}[{anchor}]{{@{{}}{side}@{{}}}}{text}\end{{tabular}}"


def _cell(cell: TableCell, stacked: bool) -> str:
    value, bracket, interval = cell.text.partition(" [")
    if stacked and bracket:
        if cell.bold:
            return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}\textbf{{{escape(value)}}}\\{{}}[{escape(interval)}\end{{tabular}}"
        return _stack([value, f"[{interval}"], "r", "t")
    text = escape(cell.text)
    # a cell that begins with a bracket would be read as the optional argument of the \\ before it
    text = f"{{}}{text}" if text.startswith("[") else text
    text = rf"\underline{{{text}}}" if cell.underlined and text else text
    return rf"\textbf{{{text}}}" if cell.bold and text else text


def escape(text: str) -> str:
    """Return a text that LaTeX prints as it is; long tokens may break."""
    pieces = []
    for token in re.split(r"(\s+)", text.replace("\n", " ")):
        run = 0
        for sign in token:
            run = run + 1 if sign.isalnum() else 0
            pieces.append(_sign(sign))
            if run and run % LONGEST_TOKEN == 0 and len(token) > 2 * LONGEST_TOKEN:
                pieces.append(r"\allowbreak{}")
    return "".join(pieces)


def _sign(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    if sign in _MATH:
        return rf"\ensuremath{{{_MATH[sign]}}}"
    # Greek letters lose their accents, which math mode lacks
    base = unicodedata.normalize("NFD", sign)[0] if "GREEK" in unicodedata.name(sign, "") else sign
    if base in _GREEK_AS_LATIN:
        return rf"\ensuremath{{\mathrm{{{_GREEK_AS_LATIN[base]}}}}}"
    name = unicodedata.name(base, "")
    matched = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (FINAL SIGMA|[A-Z]+)", name)
    if matched:
        letter = _GREEK_NAMES.get(matched[2], matched[2].lower())
        return rf"\ensuremath{{\{letter if matched[1] == 'SMALL' else letter.capitalize()}}}"
    return sign
