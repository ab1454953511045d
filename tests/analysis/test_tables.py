"""Tables: the same numbers in four formats, and nothing a name holds can break any of them."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from analysis.contrast import Contrast
from analysis.number_format import number, p_value, percent
from analysis.report.table import Column, ReportTable, TableCell
from analysis.report.table_cells import mean_cell, plain_cell, share_cell, word_cell

HOSTILE = r"<script>alert('x')</script> a_b & 50% #1 $x$ {y} ~^\ | *z* [c]"


def contrast(estimate, interval=None, measure="musiq"):
    return Contrast("a", "b", measure, "s", estimate, 0.0, interval, 0.01, 9, (("concepts", 8),), "t", ("seeds",))


def table(simulated=False, name="numbers", caption="Numbers", word="direct"):
    rows = tuple(
        (
            word_cell(f"{word} {row}"),
            mean_cell(contrast(value, (value - 0.0371, value + 0.0371))),
            share_cell(contrast(abs(value) % 1, (0.0, 1.0))),
            plain_cell(row, f"{row:,}"),
        )
        for row, value in ((1234, 0.123456789), (2, -62.806312), (3, 0.5))
    )
    columns = (Column("", "words"), Column("mean"), Column("share"), Column("n"))
    return ReportTable(name, caption, columns, rows, ("One note.",), simulated)


class Cells(HTMLParser):
    """Collect what stands in the body's cells of an HTML table."""

    def __init__(self):
        super().__init__()
        self.rows, self.tags, self.open = [], [], None

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.open = None

    def handle_data(self, text):
        if self.open:
            self.rows[-1][-1] += text


def plain(text):
    text = re.sub(r"\\begin\{tabular\}\[t\]\{@\{\}r@\{\}\}(.*?)\\\\\{\}(.*?)\\end\{tabular\}", r"\1 \2", text)
    return text.replace(r"\ensuremath{-}", "−").replace(r"\allowbreak", "").replace("{}", "").replace("\\", "").strip()


def test_every_format_prints_the_same_numbers():
    made = table()
    expected = [[cell.text for cell in row] for row in made.rows]
    markdown = [
        [plain(cell) for cell in line.strip("|").split("|")] for line in made.to_markdown().splitlines() if "direct" in line
    ]
    latex = [
        [plain(cell) for cell in line.removesuffix(r" \\").split(" & ")]
        for line in made.to_latex().splitlines()
        if "direct" in line
    ]
    parser = Cells()
    parser.feed(made.to_html())
    assert markdown == expected
    assert latex == expected
    assert parser.rows[1:] == expected


def test_csv_holds_the_unrounded_values_behind_what_is_printed():
    rows = list(csv.DictReader(io.StringIO(table().to_csv())))
    assert [row["quantity"] for row in rows] == ["mean", "share"] * 3
    means = [row for row in rows if row["quantity"] == "mean"]
    assert means[0]["estimate"] == "0.123456789"
    assert float(means[1]["low"]) == -62.806312 - 0.0371
    assert (means[0]["metric"], means[0]["arm"], means[0]["other_arm"]) == ("musiq", "a", "b")
    assert (means[0]["p"], means[0]["n"], means[0]["clusters"], means[0]["test"]) == ("0.01", "9", "8 concepts", "t")
    assert [number(float(row["estimate"]), 3) for row in means] == ["0.123", "−62.806", "0.500"]
    assert [cell[1].text.split(" ")[0] for cell in table().rows] == ["0.123", "−62.806", "0.500"]


def test_simulated_judgments_are_marked_in_every_format():
    made, real = table(simulated=True), table()
    for text in (made.to_markdown(), made.to_latex(), made.to_html()):
        assert text.count("imulated") >= 2
    assert all(row["simulated"] == "yes" for row in csv.DictReader(io.StringIO(made.to_csv())))
    assert all("imulated" not in text for text in (real.to_markdown(), real.to_latex(), real.to_html()))


def test_latex_escapes_names_captions_headings_and_notes():
    made = ReportTable(
        "x_1", HOSTILE, (Column(HOSTILE, "words"), Column("50%")), ((word_cell(HOSTILE), TableCell("[1]")),), (HOSTILE,)
    )
    text = made.to_latex()
    # what is bare: the column separators of the heading and the one row
    bare = {sign: len(re.findall(rf"(?<!\\){re.escape(sign)}", text)) for sign in "&%#_$"}
    # the percent sign ends a line of our own
    assert bare == {"&": 2, "%": 1, "#": 0, "_": 0, "$": 0}
    assert r"\ensuremath{<}script\ensuremath{>}" in text
    assert r"& {}[1] \\" in text
    assert text.count("{") == text.count("}")


def test_html_escapes_names():
    made = ReportTable("x", HOSTILE, (Column(HOSTILE, "words"),), ((word_cell(HOSTILE),),), (HOSTILE,))
    parser = Cells()
    parser.feed(made.to_html())
    assert "script" not in [tag for tag, _ in parser.tags]
    assert parser.rows[1] == [HOSTILE]
    scopes = [attrs.get("scope") for tag, attrs in parser.tags if tag == "th"]
    assert scopes == ["col", "row"]
    assert "caption" in [tag for tag, _ in parser.tags]


def test_markdown_and_csv_keep_hostile_names_in_their_cell():
    made = ReportTable("x", "c", (Column("name", "words"), Column("n")), ((word_cell(HOSTILE), plain_cell(1, "1")),))
    line = made.to_markdown().splitlines()[4]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "<script>" not in line
    assert next(csv.DictReader(io.StringIO(made.to_csv())))["name"] == HOSTILE
    formula = ReportTable("x", "c", (Column("name", "words"),), ((word_cell("=1+1"),),))
    assert next(csv.DictReader(io.StringIO(formula.to_csv())))["name"] == "'=1+1"


def test_bold_is_in_every_format_that_has_it():
    made = ReportTable(
        "x", "c", (Column("", "words"), Column("m")), ((word_cell("a"), TableCell("0.5", (("", 0.5),), bold=True)),)
    )
    assert "**0.5**" in made.to_markdown()
    assert r"\textbf{0.5}" in made.to_latex()
    assert "<strong>0.5</strong>" in made.to_html()


@pytest.mark.parametrize(
    ("p", "printed"),
    [(None, "–"), (0.00002, "<.001"), (0.0257, ".026"), (0.9996, "1.000"), (1.0, "1.000"), (0.0, "<.001")],
)
def test_p_values_have_three_digits(p, printed):
    assert p_value(p) == printed


def test_numbers_have_a_true_minus_and_no_negative_zero():
    assert number(-0.00001, 2) == "0.00"
    assert number(-1234.5, 1) == "−1,234.5"
    assert percent(823 / 1740) == "47.3 %"


def test_a_missing_estimate_is_a_dash_and_an_empty_field():
    made = ReportTable("x", "c", (Column("", "words"), Column("m")), ((word_cell("a"), mean_cell(contrast(None))),))
    assert "| – |" in made.to_markdown()
    row = next(csv.DictReader(io.StringIO(made.to_csv())))
    assert (row["row"], row["estimate"], row["simulated"]) == ("a", "", "no")


def test_a_number_that_is_text_stays_a_number_and_only_formulas_are_guarded():
    words = ("-7.5", "-2", "+1", "=1+1", "@sum", "-x")
    made = ReportTable("x", "c", (Column("name", "words"),), tuple((word_cell(word),) for word in words))
    names = [row["name"] for row in csv.DictReader(io.StringIO(made.to_csv()))]
    assert names == ["-7.5", "-2", "+1", "'=1+1", "'@sum", "'-x"]


def test_second_best_is_underlined_where_a_format_can():
    made = ReportTable("x", "c", (Column("", "words"), Column("m")), ((word_cell("a"), TableCell("0.5", underlined=True)),))
    assert "<ins>0.5</ins>" in made.to_markdown()
    assert r"\underline{0.5}" in made.to_latex()
    assert "<u>0.5</u>" in made.to_html()
