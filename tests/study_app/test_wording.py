"""Own wording: overrides, other languages, hash, freeze, and what pages show."""

import json
import tomllib
from pathlib import Path

import pytest
from sqlalchemy import select

from db.models import Study
from db.session import default_url, open_database, read
from evalkit.errors import UserError
from study_app.conduct.export import export_study
from study_app.conduct.export_archive import read_archive
from study_app.conduct.verify import verify_export
from study_app.plan import wording
from study_app.plan.design import read_design
from study_app.plan.initialize import begin_study
from study_app.plan.texts import load_sentences
from study_app.service.study import StudyService
from study_app.web.markdown_text import block, inline
from tests.runs import make_run
from tests.study_app.test_command import call

OWN = """
language = "en"
[entry]
minutes = 20
payment = "£3"
[text.en]
title = "A study of the University of Somewhere"
consent.body = ["Ethics number **2026-17**.", "Contact: [us](mailto:us@example.org) <script>"]
questions.pair.two = "Which image is worse?"
trial.progress = "{done}/{total}"
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", arms=("plain", "fancy"), scores=False)
    return tmp_path / "run"


def begin(run: Path, text: str) -> str:
    """Begin the study with this file and return the design's sha256."""
    (run / "study.toml").write_text(text, encoding="utf-8")
    database = open_database(default_url(run))
    try:
        return begin_study(database, run, read_design(run)).design_sha256
    finally:
        database.close()


def test_own_sentences_are_shown_hashed_exported_and_frozen(run: Path, tmp_path: Path, monkeypatch) -> None:
    assert begin(run, OWN.replace("worse", "better")) != (sha256 := begin(run, OWN))
    database = open_database(default_url(run))
    service = StudyService(database, run)
    words = service.sentences
    assert (words.title, words.questions.pair.two) == ("A study of the University of Somewhere", "Which image is worse?")
    assert words.consent.agree == load_sentences("en").consent.agree
    # no one can read a consent that the researcher did not write
    assert service.languages == ("en",)
    service.join()
    target = tmp_path / "export.zip"
    export_study(database, run, target)
    verify_export(target)
    design = json.loads(read_archive(target)[0]["design.json"])
    assert design["sha256"] == sha256
    assert design["design"]["wording"]["languages"]["en"]["questions"]["pair"]["two"] == "Which image is worse?"
    # a later evalkit with other defaults changes no sentence of this study
    monkeypatch.setattr(wording, "load_sentences", lambda _: load_sentences("de"))
    assert StudyService(database, run).sentences == words
    database.close()
    with pytest.raises(UserError, match="people have joined its study, so its design is frozen"):
        begin(run, OWN.replace("worse", "better"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[text.en]\nconsent.bdy = ['x']", r"text\.en\.consent\.bdy: is not a sentence; known: heading, body"),
        ("[text.en]\nconsent = 'x'", r"text\.en\.consent: must be a table of sentences"),
        ("[text.en]\ntitle.x = 'x'", r"text\.en\.title: must be a sentence, not a table"),
        ("[text.en]\ntrial.progress = '{all}'", r"text\.en\.trial\.progress: has no placeholder {all}; known: done, total"),
        ("[text.en]\ntrial.progress = '{done'", r"has a broken placeholder"),
        ("[text.en]\ntitle = 3", r"text\.en: title: "),
        ("[text.en]\ntrial.ranks = ['best']", r"text\.en: trial\.ranks"),
        ("[text.fr]\ntitle = 'Étude'", r"text\.fr: this language is new, and welcome\.heading is missing"),
        ("language = 'fr'", r"language 'fr': has no texts; known languages: de, en"),
        ("text = 'none.toml'", r"none\.toml: cannot be read"),
        ("logo = 'logo.png'", r"logo\.png: the logo cannot be read"),
    ],
)
def test_wording_that_cannot_be_shown_is_refused_in_one_line(run: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        begin(run, text)
    assert "\n" not in str(refused.value)


def test_another_language_is_one_file_and_the_listed_keys_are_a_whole_one(run: Path) -> None:
    listed = call("text", "--list").rpartition("[exit")[0]
    english = tomllib.loads(listed)["text"]["en"]
    assert wording.flat_sentences(english)
    arabic = listed.replace("[text.en]", "[ar]").replace('direction = "ltr"', 'direction = "rtl"')
    (run / "arabic.toml").write_text(arabic, encoding="utf-8")
    begin(run, 'language = "ar"\ntext = "arabic.toml"')
    database = open_database(default_url(run))
    service = StudyService(database, run)
    assert service.languages == ("ar",)
    assert service.sentences.direction == "rtl"
    database.close()
    assert '[text.ar]\ndirection = "rtl"' in call("text", run, "--language", "ar")


def test_a_study_begun_without_stored_wording_has_the_defaults(run: Path) -> None:
    begin(run, "seed = 1")
    database = open_database(default_url(run))
    with read(database) as session:
        study = session.scalars(select(Study)).one()
        study.design = {key: value for key, value in study.design.items() if key != "wording"}
        assert wording.languages_of(study) == ("de", "en")
        assert wording.sentences_of(study, "de") == load_sentences("de")
        assert wording.logo_of(study) is None
        session.expunge_all()
    database.close()


def test_markdown_is_shown_and_raw_html_is_text() -> None:
    assert block("Ethics **17** [us](https://x.example)") == (
        '<p>Ethics <strong>17</strong> <a href="https://x.example">us</a></p>\n'
    )
    hostile = block('<script>alert(1)</script> [a](javascript:alert(1)) ![i](https://x.example/i.png) <img src=x onerror="y">')
    for tag in ("<script", "<img", 'href="javascript'):
        assert tag not in hostile
    assert inline("*a* & b") == "<em>a</em> &amp; b"
