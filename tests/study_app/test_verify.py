"""Verification names what was changed in an export, and what an older one cannot prove."""

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from evalkit.errors import UserError
from study_app.conduct.export_archive import read_archive, write_archive
from study_app.conduct.verify import verify_export
from study_app.plan.export_tables import free_text, readings, reply_cell
from tests.runs import make_run
from tests.study_app.test_command import call


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("verified") / "run"
    make_run(run, arms=("plain", "fancy"), scores=False)
    (run / "study.toml").write_text("also_ask = ['quality']\n\n[checks]\nnull_pairs = 0.3\n")
    call("simulate", run, "--participants", 3)
    call("exclude", run, 2, "--because", "asked us to")
    call("export", run)
    return run / "study" / "export.zip"


@pytest.fixture
def legacy() -> Path:
    """Return an export of schema 0007, whose log holds the choices alone."""
    return Path(__file__).parent / "old" / "export_0007.zip"


def changed(export: Path, target: Path, change) -> Path:
    """Write the export anew after `change` had its way with the files, all hashes of files made to fit again."""
    with zipfile.ZipFile(export) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist() if name != "SHA256SUMS"}
    change(files)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    with zipfile.ZipFile(target, "w") as bundle:
        for name, data in {**files, "SHA256SUMS": sums.encode()}.items():
            bundle.writestr(name, data)
    return target


def test_a_sound_export_reports_what_it_holds(export: Path) -> None:
    verified = verify_export(export)
    assert verified.judgments == 18
    assert verified.limits == ()
    printed = call("verify", export)
    assert f"18 judgments, {verified.events} events, chain {verified.chain}" in printed
    assert "exit 0" in call("verify", export, "--chain", verified.chain)
    with pytest.raises(UserError, match="not in the given hash"):
        call("verify", export, "--chain", "1" * 64)


def test_an_export_holds_tidy_votes_that_follow_from_its_tables(export: Path, tmp_path: Path) -> None:
    files, _ = read_archive(export)
    votes, codebook = list(csv.DictReader(io.StringIO(files["votes.csv"].decode()))), files["codebook.md"].decode()
    judgments = list(csv.DictReader(io.StringIO(files["judgments.csv"].decode())))
    assert len([vote for vote in votes if vote["question"] == "overall"]) == len(judgments) == 18
    assert {vote["question"] for vote in votes} == {"overall", "quality"}
    assert all(vote["chosen_arm"] in (vote["arm_left"], vote["arm_right"], "tie") for vote in votes)
    assert {vote["flags"] for vote in votes if vote["participant"] == "P2"} == {"simulated+excluded"}
    assert all(f"| `{column}` |" in codebook for column in votes[0])
    for name, old in (("votes.csv", votes[0]["chosen_arm"].encode()), ("codebook.md", b"the preferred arm")):
        forged = repacked(export, tmp_path / name, replace(name, old, b"another"))
        with pytest.raises(UserError, match=name):
            verify_export(forged)


@pytest.mark.parametrize("logged", ["now", "by an earlier version"])
def test_options_and_numbers_stay_as_they_are_and_free_text_is_guarded(logged: str) -> None:
    given = {"-2": "-2", "-7.5": "-7.5", "- none": "- none", "=cmd": "'=cmd", "@x": "'@x", "plain": "plain"}
    for reply, expected in given.items():
        cell = reply_cell(reply, ("- none", "-2"))
        assert cell == expected
        committed = reply if logged == "now" else free_text(reply)
        assert committed in readings(cell)
    assert "=other" not in readings("'=cmd")


def repacked(export: Path, target: Path, change) -> Path:
    """Write the export again after `change`, as the export itself packs it."""
    files = {name: data for name, data in read_archive(export)[0].items() if name != "SHA256SUMS"}
    change(files)
    write_archive(target, files)
    return target


def replace(name: str, old: bytes, new: bytes):
    def change(files: dict[str, bytes]) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    return change


def without_last_event(files: dict[str, bytes]) -> None:
    files["events.jsonl"] = b"".join(files["events.jsonl"].splitlines(keepends=True)[:-1])


def without_an_event(files: dict[str, bytes]) -> None:
    lines = files["events.jsonl"].splitlines(keepends=True)
    files["events.jsonl"] = b"".join(lines[:4] + lines[5:])


def without_a_judgment(files: dict[str, bytes]) -> None:
    files["judgments.csv"] = b"".join(files["judgments.csv"].splitlines(keepends=True)[:-1])


def another_choice(files: dict[str, bytes]) -> None:
    lines = files["judgments.csv"].decode().splitlines(keepends=True)
    swap = {"left": "right", "right": "left"}
    cells = lines[1].split(",")
    cells[2] = swap[cells[2]]
    files["judgments.csv"] = "".join([lines[0], ",".join(cells), *lines[2:]]).encode()


def another_image(files: dict[str, bytes]) -> None:
    shown = files["comparisons.csv"].splitlines()[1].split(b",")[5]
    files["comparisons.csv"] = files["comparisons.csv"].replace(shown, b"0" * 64)


def another_design(files: dict[str, bytes]) -> None:
    told = json.loads(files["design.json"])
    told["design"]["per_comparison"] = 1
    files["design.json"] = json.dumps(told).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("events.jsonl", b'"judged"', b'"joined"'), "does not follow"),
        (without_an_event, "event 5 does not follow"),
        (without_last_event, "events are missing at its end"),
        (without_a_judgment, "is in the log only"),
        (another_choice, "differs from the log"),
        (another_design, "is not the design the study was begun with"),
        (another_image, "shows an image that is not the manifest's"),
    ],
)
def test_a_change_of_a_legacy_export_is_named(legacy: Path, tmp_path: Path, change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        verify_export(changed(legacy, tmp_path / "changed.zip", change))


def test_a_file_changed_after_the_export_is_named(export: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(export) as bundle, zipfile.ZipFile(tmp_path / "x.zip", "w") as other:
        for name in bundle.namelist():
            other.writestr(name, bundle.read(name) + (b" " if name == "participants.csv" else b""))
    with pytest.raises(UserError, match=r"participants.csv was changed after the export"):
        verify_export(tmp_path / "x.zip")
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="is not a readable zip file"):
        verify_export(tmp_path / "no.zip")


def of_older_code(files: dict[str, bytes]) -> None:
    """Leave out what exports did not have while a comparison showed two images: two tables and a column."""
    for name in ("further_images.csv", "further_pictures.csv"):
        del files[name]
    rows = list(csv.reader(io.StringIO(files["assignments.csv"].decode())))
    place = rows[0].index("arrangement")
    files["assignments.csv"] = "".join(",".join(row[:place] + row[place + 1 :]) + "\n" for row in rows).encode()


def test_an_export_made_before_there_were_further_images_is_still_sound(legacy: Path, tmp_path: Path) -> None:
    assert verify_export(changed(legacy, tmp_path / "older.zip", of_older_code)) == verify_export(legacy)
    # an image that is not the manifest's is found there too, and so is another participant's side
    for change, message in ((another_image, "not the manifest's"), (another_choice, "differs from the log")):
        with pytest.raises(UserError, match=message):
            verify_export(changed(tmp_path / "older.zip", tmp_path / "changed.zip", change))


def test_an_export_without_a_log_states_why_it_cannot_be_verified() -> None:
    with pytest.raises(UserError, match=r"a version without a log \(schema 0001\), so nothing in it can be proven"):
        verify_export(Path(__file__).parent / "old" / "export_0001.zip")


def test_further_images_cannot_be_left_out_where_they_were_shown(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, scores=False)
    (run / "study.toml").write_text("at_once = 3\nper_comparison = 1\n")
    call("simulate", run, "--participants", 1)
    call("export", run)
    with pytest.raises(UserError, match=r"further_images.csv is missing or unknown"):
        verify_export(changed(run / "study" / "export.zip", tmp_path / "x.zip", lambda files: files.pop("further_images.csv")))
