"""The report's gallery: bounded, evenly spaced, and no crash where a picture is lost."""

from PIL import Image

from analysis.report.gallery import gallery, thumbnail
from analysis.report.report_page import render
from tests.analysis.study_rows import findings_of, run_of


def test_the_gallery_is_bounded_and_evenly_spaced(judged, found):
    shown = gallery(found, judged, most=4)
    assert [exhibit.case for exhibit in shown] == [found.data.cases[place].key for place in (0, 3, 7, 11)]
    first = shown[0]
    assert [arm.name for arm in first.arms] == list(found.data.labels)
    assert len(first.references) == 4
    assert sum(tally.for_first + tally.for_second + tally.cannot_tell for tally in first.tallies) == 15


def test_thumbnails_are_bounded_and_a_lost_file_is_no_crash(tmp_path, judged):
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "large.png")
    assert thumbnail(tmp_path / "large.png").startswith("data:image/jpeg;base64,")
    assert len(thumbnail(tmp_path / "large.png")) < 20_000
    assert thumbnail(tmp_path / "gone.png") == ""
    lost = run_of(tmp_path / "run")
    found = findings_of(lost)
    for path in (lost / "references").rglob("*.png"):
        path.unlink()
    assert "file is gone" in render(found, lost)
