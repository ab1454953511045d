"""Every mutation of an honest export is found, and a consistently forged one by the published hash."""

import csv
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.session import Database, open_database, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct import export_archive
from study_app.conduct.actions import erase, exclude, include, lock
from study_app.conduct.export import export_study
from study_app.conduct.export_archive import sums_of, write_archive
from study_app.conduct.verify import verify_export
from study_app.plan.audit_log import event_hash, sha256_of
from study_app.plan.design import Checks, Design
from study_app.plan.questionnaire import Question
from study_app.plan.screen_check import ScreenRule, ScreenSize
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.study_app.conftest import begin

Files = dict[str, bytes]
DESIGN = Design(
    per_comparison=2,
    cannot_tell=True,
    also_ask=("quality",),
    checks=Checks(null_pairs=0.3, repeats=0.2, attention=0.3),
    screen=ScreenRule(least_width=600),
    questionnaire=(Question(name="remarks", text="Anything else?", kind="text"),),
)


def conduct(service: StudyService) -> None:
    """Let three people judge, undo, return, be excluded and included, reply; then lock the study and erase one of them."""
    people = []
    for number in range(3):
        token = service.join()
        who = service.visitor(token).id
        people.append(who)
        service.finish_step(who, "consented_at")
        assert service.check_screen(who, ScreenSize(1280, 900, 2), []) is None
        for step in ("instructed_at", "practiced_at"):
            service.finish_step(who, step)
        answered = 0
        while (trial := service.trial(who)) is not None:
            choice = ("left", "right", "cannot_tell")[(answered + number) % 3]
            service.answer(who, trial, choice, Timing(900 + answered, 120, 0, 0))
            answered += 1
            if answered == 3 and trial.kind == "comparison":
                service.undo(who, trial.owner)
            if number == 2 and answered == 5:
                break
        service.reply(who, {"remarks": f"=I am {who}"})
    with write(service.database) as session:
        exclude(session, service.study_id, people[0], "asked us to", utc_now())
    while (trial := service.trial(people[2])) is not None:
        service.answer(people[2], trial, "left", Timing())
    with write(service.database) as session:
        include(session, service.study_id, people[0], utc_now())
        exclude(session, service.study_id, people[1], "too fast", utc_now())
        lock(session, service.study_id, utc_now())
    with write(service.database) as session:
        erase(session, service.study_id, people[2], utc_now())


def export_honestly(database: Database, folder: Path) -> Path:
    service = StudyService(database, begin(database, folder / "run", DESIGN).run)
    conduct(service)
    export_study(database, service.blinding.run, folder / "honest.zip")
    return folder / "honest.zip"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    database = open_database(f"sqlite:///{folder / 'study.db'}")
    path = export_honestly(database, folder)
    database.close()
    return path


def files_of(path: Path) -> Files:
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist() if name != "SHA256SUMS"}


def chained(files: Files) -> Files:
    """Return the files with a log whose hashes fit, as a forger who rewrites it would."""
    design = json.loads(files["design.json"])["design"]
    chain, number = sha256_of(design), 0
    for name in ("events.jsonl", "erasures.jsonl"):
        lines = []
        for line in files[name].splitlines():
            event = json.loads(line)
            number += 1
            chain = event_hash(chain, number, event["kind"], event["content"], event["happened_at"])
            event |= {"number": number, "sha256": chain}
            lines.append(json.dumps(event, sort_keys=True).encode() + b"\n")
        files = {**files, name: b"".join(lines)}
        about = json.loads(files["about.json"])
        about |= {"events": number, "chain": chain} if name == "events.jsonl" else {"erasures_chain": chain}
        files["about.json"] = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
    return files


def test_an_honest_export_is_verified_and_bound_to_its_hash(database: Database, tmp_path: Path) -> None:
    honest = export_honestly(database, tmp_path)
    verified = verify_export(honest)
    assert verified.erasures == 1
    assert verified.limits == ()
    assert verify_export(honest, verified.chain) == verified
    with pytest.raises(UserError, match="not in the given hash"):
        verify_export(honest, "0" * 64)
    # packed again, it is the same file
    write_archive(tmp_path / "again.zip", files_of(honest))
    assert (tmp_path / "again.zip").read_bytes() == honest.read_bytes()


def rows_of(files: Files, name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(files[name].decode(), newline="")))


def put_rows(files: Files, name: str, rows: list[list[str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    files[name] = stream.getvalue().encode()


def mutate(files: Files, rng: random.Random) -> str:
    """Change one thing of an export and describe it."""
    name = rng.choice(sorted(files))
    kind = rng.choice(["byte", "cut", "insert", "drop file", "new file", *(["cell", "row", "swap", "header"] * 3)])
    data = files[name]
    if kind == "new file":
        files["more.csv"] = b"id\n"
    elif kind == "drop file":
        del files[name]
    elif kind in ("byte", "cut", "insert") or not name.endswith(".csv"):
        if not data:
            files[name] = b"\n"
            return f"{name}: filled"
        place = rng.randrange(len(data))
        replacement = {"cut": b"", "insert": bytes([data[place], rng.randrange(256)])}.get(
            kind, bytes([data[place] ^ (1 << rng.randrange(8))])
        )
        files[name] = data[:place] + replacement + data[place + 1 :]
    else:
        rows = rows_of(files, name)
        row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
        if kind == "header" or len(rows) == 1:
            rows[0][column] += "x"
        elif kind == "cell":
            rows[row][column] = {"left": "right", "right": "left", "1": "0", "0": "1", "": "1"}.get(rows[row][column], "9")
        elif kind == "row":
            rows = [*rows[:row], *rows[row + 1 :]]
        else:
            other = rng.randrange(1, len(rows))
            rows[row], rows[other] = rows[other], rows[row]
        put_rows(files, name, rows)
    return f"{name}: {kind}"


@pytest.mark.parametrize("mutations", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_every_mutation_of_an_honest_export_is_found(honest: Path, tmp_path: Path, mutations: int) -> None:
    original = files_of(honest)
    found = 0

    @settings(max_examples=mutations, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def check(rng: random.Random) -> None:
        nonlocal found
        files = dict(original)
        what = mutate(files, rng)
        if files == original:
            return
        write_archive(tmp_path / "forged.zip", files)
        with pytest.raises(UserError) as caught:
            verify_export(tmp_path / "forged.zip")
        assert "\n" not in str(caught.value), what
        found += 1

    check()
    assert found > 0.8 * mutations


def exchange_arms(files: Files) -> None:
    rows = rows_of(files, "comparisons.csv")
    put_rows(files, "comparisons.csv", [rows[0], *([*row[:3], row[4], row[3], *row[5:]] for row in rows[1:])])


def exchange_images(files: Files) -> None:
    rows = rows_of(files, "comparisons.csv")
    put_rows(files, "comparisons.csv", [rows[0], *([*row[:5], row[6], row[5], *row[7:]] for row in rows[1:])])


def rotate_manifest(files: Files) -> None:
    manifest = json.loads(files["manifest.json"])
    labels = [arm["label"] for arm in manifest["arms"]]
    for image in manifest["images"]:
        image["arm"] = labels[(labels.index(image["arm"]) + 1) % len(labels)]
    files["manifest.json"] = json.dumps(manifest).encode()


def set_column(name: str, column: str, value: str) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        rows = rows_of(files, name)
        place = rows[0].index(column)
        put_rows(files, name, [rows[0], *([*row[:place], value, *row[place + 1 :]] for row in rows[1:])])

    return change


def swap_choices(files: Files) -> None:
    files["events.jsonl"] = (
        files["events.jsonl"].replace(b'"left"', b'"x"').replace(b'"right"', b'"left"').replace(b'"x"', b'"right"')
    )


def change_wording(files: Files) -> None:
    design = json.loads(files["design.json"])
    design["design"]["cannot_tell"] = False
    design["sha256"] = sha256_of(design["design"])
    files["design.json"] = (json.dumps(design, indent=1, sort_keys=True) + "\n").encode()


FORGERIES: dict[str, Callable[[Files], None]] = {
    "arms swapped": exchange_arms,
    "images swapped": exchange_images,
    "manifest rotated": rotate_manifest,
    "exclusions removed": set_column("participants.csv", "excluded_at", ""),
    "checks passed": set_column("checks.csv", "choice", "left"),
    "times changed": set_column("judgments.csv", "reaction_ms", "1500"),
    "judgments surplus": set_column("judgments.csv", "surplus", "1"),
    "design changed": change_wording,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_export_is_found(honest: Path, tmp_path: Path, name: str) -> None:
    files = files_of(honest)
    FORGERIES[name](files)
    for forged in (files, chained(files)):
        write_archive(tmp_path / "forged.zip", forged)
        with pytest.raises(UserError):
            verify_export(tmp_path / "forged.zip", verify_export(honest).chain)


def test_a_rewritten_log_is_found_by_the_published_hash(honest: Path, tmp_path: Path) -> None:
    published, files = verify_export(honest).chain, files_of(honest)
    # a forger who reverses every choice, in the log and in the tables, and makes all hashes fit
    forged = dict(files)
    swap_choices(forged)
    for name in ("judgments.csv", "answers.csv", "withdrawals.csv", "checks.csv"):
        forged[name] = forged[name].replace(b"left,", b"x,").replace(b"right,", b"left,").replace(b"x,", b"right,")
    forged = chained(forged)
    write_archive(tmp_path / "forged.zip", forged)
    with pytest.raises(UserError):
        verify_export(tmp_path / "forged.zip", published)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("events.jsonl", b"{}\n"), ("events.jsonl", b"[]\n"), ("events.jsonl", b"\xff\n"), ("events.jsonl", b"[" * 9999),
        ("events.jsonl", b'{"content": [], "happened_at": "x", "kind": "judged", "number": 1, "sha256": "x"}\n'),
        ("about.json", b"[]"), ("about.json", b'{"format": 3}'), ("design.json", b"null"), ("manifest.json", b"\x00"),
        ("judgments.csv", b"\xff\xfe"), ("judgments.csv", b'"'), ("comparisons.csv", b"id\nx\n"),
        ("../outside.csv", b"id\n"), ("a/b.csv", b"id\n"),
    ],
)  # fmt: skip
def test_odd_bytes_give_one_line(honest: Path, tmp_path: Path, name: str, data: bytes) -> None:
    files = {**files_of(honest), name: data}
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as bundle:
        for file, content in {**files, "SHA256SUMS": sums_of(files)}.items():
            bundle.writestr(file, content)
    with pytest.raises(UserError) as caught:
        verify_export(tmp_path / "odd.zip")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_archive, "MOST_BYTES", 2**20)
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle,
        bundle.open("x.csv", "w", force_zip64=True) as file,
    ):
        for _ in range(5):
            file.write(bytes(2**20))
    with pytest.raises(UserError, match="implausibly large"):
        verify_export(tmp_path / "bomb.zip")
