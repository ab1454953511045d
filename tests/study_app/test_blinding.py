"""Blinding: what leaves the server tells nothing but pixels, and only to whom it is shown."""

import hashlib
import io
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from db.session import Database
from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from study_app.plan import blinding
from study_app.plan.blinding import encode, make_stimuli, read_secret
from study_app.plan.design import Design
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.png import chunks


@pytest.fixture
def service(database: Database, tmp_path: Path) -> StudyService:
    return StudyService(database, begin(database, tmp_path / "run", Design()).run)


def joined(service: StudyService) -> tuple[str, int]:
    token = service.join()
    visitor = service.visitor(token)
    assert visitor is not None
    service.finish_step(visitor.id, "practiced_at")
    return token, visitor.id


def urls(trial) -> list[str]:
    return [*trial.images, *(url for concept in trial.concepts for url in concept.references)]


def test_metadata_never_survives() -> None:
    image, note, stream = Image.new("RGB", (8, 8), "red"), PngImagePlugin.PngInfo(), io.BytesIO()
    note.add_text("parameters", "method=orthogonal seed=1")
    image.save(stream, "PNG", pnginfo=note, dpi=(72, 72), icc_profile=b"profile of orthogonal")
    assert [name for name, _ in chunks(encode(stream.getvalue(), "x"))] == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_every_kind_of_image_leaves_in_the_same_form(mode: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").convert(mode).save(stream, "PNG")
    header = chunks(encode(stream.getvalue(), "x"))[0][1]
    assert header[8:] == bytes([8, 2, 0, 0, 0])


def test_pixels_are_kept(service: StudyService, tmp_path: Path) -> None:
    token, participant = joined(service)
    trial = service.trial(participant)
    shown = {service.stimulus(token, url.removeprefix("/i/")) for url in trial.images}
    sent = {np.asarray(Image.open(io.BytesIO(data))).tobytes() for data in shown}
    run = tmp_path / "run"
    drawn = {np.asarray(Image.open(run / image.path)).tobytes() for image in Manifest.load(run).images}
    assert len(sent) == 2
    assert sent <= drawn


def test_all_images_have_one_size_in_bytes_and_no_two_answers_are_alike(service: StudyService) -> None:
    sizes, hashes = set(), []
    for _ in range(3):
        token, participant = joined(service)
        for _ in range(4):
            trial = service.trial(participant)
            for url in trial.images:
                data = service.stimulus(token, url.removeprefix("/i/"))
                sizes.add(len(data))
                hashes.append(hashlib.sha256(data).hexdigest())
            service.answer(participant, trial, "left", Timing())
    assert len(sizes) == 1
    # 24 answers from 12 images: the same image came twice, never with the same bytes
    assert len(set(hashes)) == len(hashes) == 24


def test_the_same_image_has_another_url_in_every_assignment(service: StudyService) -> None:
    seen: list[str] = []
    for _ in range(3):
        _, participant = joined(service)
        while (trial := service.trial(participant)) is not None:
            seen += urls(trial)
            service.answer(participant, trial, "left", Timing())
    assert len(set(seen)) == len(seen)


def test_an_image_exists_only_for_whom_it_is_shown_and_while_it_is(service: StudyService) -> None:
    token, participant = joined(service)
    other, _ = joined(service)
    trial = service.trial(participant)
    shown = [url.removeprefix("/i/") for url in urls(trial)]
    assert all(service.stimulus(token, url) for url in shown)
    assert all(service.stimulus(stranger, url) is None for url in shown for stranger in (other, None, "", "guess"))
    assert service.stimulus(token, "0" * 32) is None
    assert service.stimulus(token, "../secret") is None
    service.answer(participant, trial, "left", Timing())
    assert all(service.stimulus(token, url) is None for url in shown)


def test_practice_images_are_gone_after_practice(service: StudyService) -> None:
    token = service.join()
    visitor = service.visitor(token)
    shown = [url.removeprefix("/i/") for trial in service.practice(visitor.id) for url in urls(trial)]
    assert len(shown) >= 6
    assert all(service.stimulus(token, url) for url in shown)
    service.finish_step(visitor.id, "practiced_at")
    assert all(service.stimulus(token, url) is None for url in shown)


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = read_secret(tmp_path / "study" / "secret")
    assert read_secret(tmp_path / "study" / "secret") == first
    assert read_secret(tmp_path / "other" / "secret") != first
    assert stat.S_IMODE((tmp_path / "study" / "secret").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "study").iterdir()] == ["secret"]


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    with pytest.raises(UserError, match="is damaged"):
        read_secret(tmp_path / "secret")


def test_stimulus_names_say_nothing(service: StudyService, tmp_path: Path) -> None:
    names = " ".join(str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run" / "study").rglob("*"))
    manifest = Manifest.load(tmp_path / "run")
    secrets = ["plain", "fancy", *(case.id for case in manifest.cases), *(image.sha256[:12] for image in manifest.images)]
    assert not [word for word in secrets if word in names]


def test_stimuli_are_made_once(tmp_path: Path) -> None:
    manifest = make_run(tmp_path, scores=False)
    assert make_stimuli(tmp_path, manifest) == 18 + 2 * 6
    assert make_stimuli(tmp_path, manifest) == 0


def test_large_references_are_made_smaller_and_images_never(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2000, 1000)).save(stream, "PNG")
    assert Image.open(io.BytesIO(encode(stream.getvalue(), "x", blinding.REFERENCE_SIDE))).size == (768, 384)
    assert Image.open(io.BytesIO(encode(stream.getvalue(), "x"))).size == (2000, 1000)


def test_a_picture_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    manifest = make_run(tmp_path, scores=False)
    Image.new("RGB", (8, 8)).save(tmp_path / manifest.images[2].path)
    with pytest.raises(UserError, match=r"star-ring/mc_dropout/0.png: differs from the image in the manifest"):
        make_stimuli(tmp_path, manifest)
