"""A run on one sheet: every arm and case is there, in the places the labels say."""

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import UserError
from evalkit.run.contact_sheet import GAP, sheet
from evalkit.run.image_records import image_path
from tests.command_line import call, check_line
from tests.runs import SIDE, THREE_ARMS, make_run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_every_image_stands_under_its_arm_and_beside_its_references(tmp_path):
    manifest = make_run(tmp_path, concepts=3, seeds=2, scores=False, references=2)
    drawn = np.asarray(sheet(tmp_path, seeds=2, side=SIDE))
    rows = [(case.id, seed) for case in manifest.cases for seed in (0, 1)]
    step = SIDE + GAP
    left, top = 2 * step + 2 * GAP, drawn.shape[0] - GAP - len(rows) * step
    for row, (case, seed) in enumerate(rows):
        for column, arm in enumerate(THREE_ARMS):
            x, y = left + column * step, top + row * step
            expected = pixels(tmp_path / image_path(case, arm, seed))
            assert np.array_equal(drawn[y : y + SIDE, x : x + SIDE], expected)
    first = pixels(tmp_path / manifest.concept(manifest.cases[0].concepts[0]).references[0].path)
    assert np.array_equal(drawn[top : top + SIDE, :SIDE], first)


def test_arms_go_on_in_bands_below_and_cases_are_chosen(tmp_path):
    manifest = make_run(tmp_path, concepts=3, scores=False)
    wide, narrow = (sheet(tmp_path, [manifest.cases[1].id], columns=columns, side=32) for columns in (4, 2))
    # references take the first place
    assert (wide.width, narrow.width) == (4 * (32 + GAP), 2 * (32 + GAP))
    assert narrow.height == 2 * wide.height
    assert np.asarray(narrow).min(axis=2)[:, -32 - GAP :].mean() < 250
    with pytest.raises(UserError, match=r"--case nothing: .* has no such case; it has star-ring"):
        sheet(tmp_path, ["nothing"])


def test_the_command_writes_a_png_or_one_line(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", scores=False)
    words = ("sheet", str(tmp_path / "run"), str(tmp_path / "sheet.png"))
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert pixels(tmp_path / "sheet.png").shape[1] > 100
    (tmp_path / "run" / "images" / "star-ring" / "direct" / "0.png").unlink()
    code, error = call(monkeypatch, capsys, *words)
    assert code == 1
    check_line(error, ("not generated yet",))
