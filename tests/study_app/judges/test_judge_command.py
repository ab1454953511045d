"""`evalkit judge` against a real server: planted values come back, calls happen once, budgets hold, all is blind."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image as PILImage
from sqlalchemy import func, select

from db.models import Comparison, JudgeCall, MachineJudge
from db.session import default_url, open_database, read, write
from evalkit.run.manifest import Manifest
from study_app.judges import chat_client
from study_app.judges.judge_chain import broken_link
from study_app.judges.judge_types import JUDGE_TYPES
from study_app.plan.design import Design
from study_app.plan.initialize import begin_study
from tests.command_line import call
from tests.runs import make_run
from tests.study_app.judges.judge_server import Planted, brightness, images_in, serving, texts_in

ARMS = ("plain", "fancy")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "FIRST_DELAY", 0.02)


def make_study(run: Path, concepts: int = 3, seeds: int = 2, **design) -> Path:
    make_run(run, arms=ARMS, concepts=concepts, seeds=seeds, scores=False)
    database = open_database(default_url(run))
    begin_study(database, run, Design(**design))
    database.close()
    return run


@pytest.fixture(scope="module")
def begun_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose study has 6 comparisons, for tests that write nothing."""
    return make_study(tmp_path_factory.mktemp("begun") / "run")


@pytest.fixture
def run(begun_run: Path, tmp_path: Path) -> Path:
    """Return a copy of that run."""
    return shutil.copytree(begun_run, tmp_path / "run")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def ask(run: Path, url: str, *words: str) -> tuple[int, str]:
        return call(monkeypatch, capsys, "judge", str(run), "--model", "m", "--endpoint", url, *words)

    return ask


def calls(run: Path) -> list[JudgeCall]:
    database = open_database(default_url(run))
    try:
        with read(database) as session:
            assert all(broken_link(session, one) is None for one in session.scalars(select(MachineJudge)))
            return list(session.scalars(select(JudgeCall).order_by(JudgeCall.id)))
    finally:
        database.close()


def test_planted_accuracy_position_bias_refusals_and_failures_come_back(tmp_path: Path, judge):
    run = make_study(tmp_path / "run", concepts=6, seeds=4)
    planted = Planted(
        accuracy=0.8, position=0.25, refusal=0.1,
        failures={"429": 0.05, "500": 0.05, "cut": 0.05, "malformed": 0.05, "slow": 0.01},
    )  # fmt: skip
    with serving(planted) as url:
        code, said = judge(run, url, "--timeout", "1", "--concurrency", "8", "--retries", "0")
    assert code == 0, said
    assert "120 of 120 calls" in said
    stored = calls(run)
    assert len(stored) == 120
    assert {one.state for one in stored} == {"answered", "refused"}
    refused = sum(one.state == "refused" for one in stored) / 120
    assert abs(refused - 0.1) < 3 * (0.1 * 0.9 / 120) ** 0.5
    assert sum(one.requests for one in stored) > 120
    truth = _brighter(run)
    by_comparison: dict[int, dict[int, str]] = {}
    for one in stored:
        if one.choice is not None:
            by_comparison.setdefault(one.comparison_id, {})[one.swapped] = one.choice
    both = {key: pair for key, pair in by_comparison.items() if len(pair) == 2}
    flips = {key for key, pair in both.items() if pair[0] == pair[1]}
    assert all(set(both[key].values()) == {"first"} for key in flips)
    assert abs(len(flips) / len(both) - 0.25) < 3 * (0.25 * 0.75 / len(both)) ** 0.5
    verdicts = {key: pair[0] == "first" for key, pair in both.items() if key not in flips}
    right = sum(verdicts[key] == truth[key] for key in verdicts) / len(verdicts)
    assert abs(right - 0.8) < 3 * (0.8 * 0.2 / len(verdicts)) ** 0.5


def _brighter(run: Path) -> dict[int, bool]:
    """Return for every comparison whether the image of its first arm is the brighter one."""
    database = open_database(default_url(run))
    try:
        with read(database) as session:
            return {
                one.id: brightness((run / one.image_a.path).read_bytes()) >= brightness((run / one.image_b.path).read_bytes())
                for one in session.scalars(select(Comparison))
            }
    finally:
        database.close()


@pytest.mark.parametrize("kind", [kind.name for kind in JUDGE_TYPES])
def test_every_judge_type_finds_the_brighter_image_in_both_orders(run: Path, judge, kind: str):
    with serving(Planted()) as url:
        code, said = judge(run, url, "--type", kind)
    assert code == 0, said
    truth, stored = _brighter(run), calls(run)
    assert len(stored) == 12
    for comparison, a_is_brighter in truth.items():
        first, second = sorted((one for one in stored if one.comparison_id == comparison), key=lambda one: one.swapped)
        if kind == "score":
            assert (first.score >= second.score) == a_is_brighter or abs(first.score - second.score) <= 1
        else:
            assert (first.choice, second.choice) == (("first", "second") if a_is_brighter else ("second", "first"))


def test_a_killed_run_resumes_and_asks_every_order_exactly_once(tmp_path: Path, judge):
    run = make_study(tmp_path / "run", concepts=4, seeds=3)
    planted = Planted(seconds=0.03)
    with serving(planted) as url:
        command = [sys.executable, "-m", "evalkit.cli.main", "judge", str(run), "--model", "m", "--endpoint", url]
        code = "import sys; from evalkit.cli.main import main; sys.argv = sys.argv[1:]; main()"
        started = subprocess.Popen(
            [sys.executable, "-c", code, "evalkit", *command[3:], "--concurrency", "2"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while sum(planted.answered.values()) < 9 and time.monotonic() < deadline and started.poll() is None:
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
        started.wait()
        killed_at = calls(run)
        assert 0 < len(killed_at) < 36
        code, said = judge(run, url)
    assert code == 0, said
    stored = calls(run)
    assert "36 of 36 calls" in said
    assert len({(one.comparison_id, one.question, one.repetition, one.swapped) for one in stored}) == len(stored) == 36
    # what was stored is as it was; only what was in flight when it was killed was asked again, and counted twice
    kept = {one.id: one.sha256 for one in killed_at if one.state != "open"}
    assert {one.id: one.sha256 for one in stored if one.id in kept} == kept
    assert sum(one.state == "open" for one in killed_at) <= 2
    again = sum(count - 1 for key, count in planted.answered.items())
    assert again <= 2
    assert sum(one.requests for one in stored) + 2 >= sum(planted.attempts.values())


@pytest.mark.parametrize(("budget", "spent"), [("calls=7", "calls"), ("tokens=900", "tokens"), ("money=0.002", "money")])
def test_a_budget_is_never_passed_and_stops_cleanly(run: Path, judge, budget: str, spent: str):
    planted = Planted(seconds=0.01)
    words = ("--budget", budget, "--price", "2", "10", "--concurrency", "4")
    with serving(planted) as url:
        code, said = judge(run, url, *words)
        assert code == 0
        assert "stopped at the budget" in said
        requests = len(planted.bodies)
        judge(run, url, *words)
        # the budget counts what was spent before
        assert len(planted.bodies) <= requests + 1
    requests = len(planted.bodies)
    tokens = sum(sum(len(words) // 4 for words in texts_in(body)) + 9 * len(images_in(body)) for body in planted.bodies)
    used = {"calls": requests, "tokens": tokens + requests, "money": (2 * tokens + 10 * requests) / 1e6}[spent]
    assert used <= float(budget.partition("=")[2])
    assert all(one.state != "open" for one in calls(run))


def test_nothing_that_is_sent_tells_the_arm(run: Path, judge):
    planted = Planted()
    with serving(planted) as url:
        judge(run, url)
        judge(run, url, "--type", "canvas", "--name", "second")
    manifest = Manifest.load(run)
    sent = [" ".join(texts_in(body)) for body in planted.bodies]
    secrets = {*ARMS, *(image.path for image in manifest.images), *(image.sha256 for image in manifest.images), str(run)}
    secrets |= {case.prompt for case in manifest.cases} | {case.id for case in manifest.cases}
    secrets |= {image.latents_sha256 for image in manifest.images if image.latents_sha256}
    for text, body in zip(sent, planted.bodies, strict=True):
        assert not [secret for secret in secrets if secret in text]
        rest = {key: value for key, value in body.items() if key != "messages"}
        assert set(rest) <= {"model", "temperature", "max_tokens", "response_format"}
        assert not re.search(r"seed|\.png", text + json.dumps(rest))
        for png in images_in(body):
            chunks = _chunks(png)
            assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}, chunks
            assert not PILImage.open(io.BytesIO(png)).info
    # the two orders of a comparison differ in nothing but the order of the images
    pairs = [tuple(images_in(body)[-2:]) for body in planted.bodies if len(images_in(body)) == 6]
    assert all((second, first) in pairs for first, second in pairs)


def _chunks(png: bytes) -> list[bytes]:
    kinds, position = [], 8
    while position < len(png):
        kinds.append(png[position + 4 : position + 8])
        position += 12 + int.from_bytes(png[position : position + 4])
    return list(dict.fromkeys(kinds))


def test_the_words_are_those_that_people_read(tmp_path: Path, judge):
    words = {"de": {"questions": {"pair": {"two": "Eigene Frage?"}}}}
    run = make_study(tmp_path / "run", language="de", text=words, also_ask=("quality", "each_concept"), cannot_tell=True)
    planted = Planted(schema=False)
    with serving(planted) as url:
        code, said = judge(run, url, "--subset", "1")
    assert code == 0, said
    # overall, quality and two concepts, in two orders
    asked = {one.question for one in calls(run)}
    assert asked == {"overall", "quality", "concept 0", "concept 1"}
    last = {texts_in(body)[-1].splitlines()[0] for body in planted.bodies}
    assert "Eigene Frage?" in last
    assert len(last) == 4
    assert all('or "cannot tell"' in texts_in(body)[-1] for body in planted.bodies)
    # the server knows no schema, so the label alone was asked for
    assert "response_format" not in planted.bodies[-1]


BAD = [
    (Planted(status=401), (), "the key is missing or wrong"),
    (Planted(status=404), (), "check --model and --endpoint"),
    (Planted(status=302), (), "redirects to another address"),
    (Planted(sees=False), (), "ignores images"),
    (Planted(text="I like the image on the left, it is brighter."), (), "instead of a label"),
    (Planted(text="Das zweite Bild"), (), "instead of a label"),
    (Planted(text=""), (), "instead of a label"),
    (Planted(text="x" * 2_000_000), (), "larger than 1,000,000 bytes"),
    (Planted(status=429, headers={"retry-after": "900"}), (), "asks to wait 900 s"),
    (Planted(), ("--questions", "overall,beauty"), "no pairwise question 'beauty'"),
    (Planted(), ("--type", "vote"), "no judge type 'vote'"),
    (Planted(), ("--budget", "calls=none"), "is not a positive number"),
    (Planted(), ("--budget", "euros=3"), "known: calls, tokens, money"),
    (Planted(), ("--parameter", "messages=[]"), "are set by evalkit"),
    (Planted(), ("--parameter", "max_tokens=null"), "needs max_tokens"),
]


@pytest.mark.parametrize(("planted", "words", "wanted"), BAD, ids=[wanted for *_, wanted in BAD])
def test_what_cannot_work_gets_one_line_and_writes_nothing(begun_run: Path, judge, planted: Planted, words, wanted: str):
    with serving(planted) as url:
        code, said = judge(begun_run, url, *words)
    assert code == 1
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    assert wanted in said
    assert calls(begun_run) == []


def test_images_leave_the_machine_with_consent_alone(run: Path, tmp_path: Path, judge, monkeypatch: pytest.MonkeyPatch):
    away = "https://judge.example/v1"
    for words, wanted in [
        ((), "add --send-images-to judge.example"),
        (("--send-images-to", "other.example"), "the endpoint's host is judge.example"),
        (("--send-images-to", "judge.example"), "set the environment variable EVALKIT_JUDGE_KEY"),
    ]:
        code, said = judge(run, away, *words)
        assert (code, wanted in said) == (1, True), said
    monkeypatch.setenv("EVALKIT_JUDGE_KEY", "a-secret")
    code, said = judge(run, "http://judge.example/v1", "--send-images-to", "judge.example")
    assert "unencrypted" in said
    code, said = judge(run, "https://user:a-secret@judge.example/v1", "--send-images-to", "judge.example")
    assert "holds a user" in said
    assert "a-secret" not in said
    forbidding = make_study(tmp_path / "other", images_may_leave=False)
    code, said = judge(forbidding, away, "--send-images-to", "judge.example")
    assert "images_may_leave = false" in said


def test_the_key_is_sent_and_stored_nowhere(run: Path, judge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALKIT_JUDGE_KEY", "a-secret")
    planted = Planted()
    with serving(planted) as url:
        judge(run, url)
    assert set(planted.authorization) == {"Bearer a-secret"}
    assert not [path for path in run.rglob("*") if path.is_file() and b"a-secret" in path.read_bytes()]


def test_a_judge_is_frozen_at_its_first_call(run: Path, judge):
    planted = Planted()
    with serving(planted) as url:
        judge(run, url, "--subset", "2")
        code, said = judge(run, url, "--parameter", "temperature=1")
        assert (code, "began with temperature 0, not 1, and is frozen" in said) == (1, True)
        database = open_database(default_url(run))
        with write(database) as session:
            session.scalars(select(MachineJudge)).one().wording_sha256 = "0" * 64
        database.close()
    # a judge that was changed in the database is noticed too
    database = open_database(default_url(run))
    with read(database) as session:
        assert broken_link(session, session.scalars(select(MachineJudge)).one()) == 0
        assert session.scalar(select(func.sum(Comparison.filled))) == 0
    database.close()
    with serving(planted) as url:
        code, said = judge(run, url)
    assert (code, "when the study had other questions" in said) == (1, True)


def test_a_dry_run_prices_the_study_and_sends_nothing(run: Path, judge):
    code, said = judge(run, "http://127.0.0.1:9/v1", "--dry-run", "--price", "2", "10")
    assert code == 0
    assert "12 calls in both orders" in said
    assert "nothing was sent" in said
    assert calls(run) == []
