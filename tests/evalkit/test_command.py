"""The commands: what they print, and how they end."""

import pytest
import typer
from typer.testing import CliRunner

from evalkit.cli.doctor import doctor
from evalkit.cli.import_images import import_images
from evalkit.cli.metrics import metrics
from evalkit.cli.score import score
from evalkit.errors import UserError
from evalkit.run.score_table import read_scores


@pytest.fixture
def app() -> typer.Typer:
    """Return the commands of this room alone."""
    app = typer.Typer()
    app.command("import")(import_images)
    app.command()(score)
    app.command()(metrics)
    app.command()(doctor)
    return app


def call(app: typer.Typer, *words: object):
    """Run a command and return its result; what it raises is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_import_then_score_prints_means_per_arm(app, folder, tmp_path, weights):
    run = tmp_path / "run"
    imported = call(app, "import", folder, "--run", run)
    assert imported.exit_code == 0
    assert "imported: 12 images, 3 arms, 2 cases" in imported.output
    assert "already imported" in call(app, "import", folder, "--run", run).output
    options = [word for name, path in weights.items() for word in ("--weights", f"{name}={path}")]
    scored = call(app, "score", run, "--metrics", "clip_t,arm_similarity,piqe", *options)
    assert scored.exit_code == 0
    assert "direct ~ orthogonal" in scored.output
    assert "not for tests" in scored.output
    assert "\nclip_t: clip_t|open_clip-dir:" in scored.output
    assert "\npiqe: piqe|piqe|no-weights|native-size|" in scored.output
    assert "36 scores in" in scored.output
    assert len(read_scores(run)) == 36


def test_missing_weights_end_in_an_error_unless_allowed(app, run, weights):
    words = ["score", run, "--metrics", "musiq,piqe"]
    refused = call(app, *words)
    assert refused.exit_code == 1
    assert "not run, because their weights are missing: musiq" in refused.stderr
    assert "musiq_koniq_ckpt-e95806b9.pth" in refused.stderr
    assert len(read_scores(run)) == 12
    allowed = call(app, *words, "--allow-missing")
    assert allowed.exit_code == 0
    assert "not run, because their weights are missing: musiq" in allowed.stderr


def test_a_corrupt_image_is_named_and_the_exit_code_says_so(app, run):
    (run / "images/both/direct/0.png").write_bytes(b"x")
    result = call(app, "score", run, "--metrics", "piqe")
    assert result.exit_code == 1
    assert "images/both/direct/0.png: has changed since the run was made" in result.stderr
    assert len(read_scores(run)) == 11


def test_an_empty_list_and_an_unknown_metric_are_refused(app, run):
    with pytest.raises(UserError, match="--metrics: no metric is named"):
        call(app, "score", run, "--metrics", ",")
    with pytest.raises(UserError, match="no metric 'piqu'; did you mean 'piqe'"):
        call(app, "score", run, "--metrics", "piqu")


def test_a_folder_that_is_no_run_is_named(app, tmp_path):
    with pytest.raises(UserError, match=r"contains neither manifest\.json nor an image"):
        call(app, "score", tmp_path)


def test_metrics_are_listed_with_licences(app):
    output = call(app, "metrics").output
    for word in ("clip_t", "dbcnn", "PolyForm Noncommercial", "Orthogonal Monte Carlo Dropout"):
        assert word in output


def test_doctor_says_what_is_there_and_what_is_not(app, weights):
    output = call(app, "doctor", "--weights", f"clip={weights['clip']}").output
    assert "given as clip" in output
    assert "missing: musiq" in output
    assert "sqlite" in output


def test_only_sqlite_versions_with_the_fix_pass():
    from evalkit.cli.machine import _wal_is_safe

    numbers = [(3, 40, 1), (3, 44, 6), (3, 45, 0), (3, 50, 7), (3, 51, 2), (3, 51, 3), (3, 60, 0)]
    assert [_wal_is_safe(number) for number in numbers] == [False, True, False, True, False, True, True]


def test_a_table_keeps_two_recipes_of_a_metric_apart_and_says_which_is_which(capsys):
    from evalkit.cli.score_output import print_scores
    from evalkit.run.score_table import ImageScore
    from evalkit.scoring.result import ScoringResult

    rows = [
        ImageScore(name, "0", "m", "", value, "none", recipe)
        for name, value, recipe in [("a", 1.0, "m|one"), ("b", 3.0, "m|two")]
    ]
    print_scores(ScoringResult(None, rows), as_json=False)
    shown = capsys.readouterr().out
    assert "1.0000" in shown
    assert "3.0000" in shown
    assert "2.0000" not in shown
    assert "m (1): m|one\nm (2): m|two" in shown
