"""Scoring a run: what it costs, what it keeps, and what one bad file does."""

import math
from collections import Counter
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import read_scores
from evalkit.scoring.run_scorer import default_metrics, score_run

METRICS = ["clip_t", "clip_i", "dino", "arm_similarity", "piqe"]


def test_every_metric_has_the_rows_its_kind_says(run, weights):
    result = score_run(run, METRICS, weights=weights)
    assert not result.problems
    assert Counter(row.metric for row in result.rows) == {
        "clip_t": 12,  # 2 cases x 3 arms x 2 seeds
        "clip_i": 6,  # only the case that shows the concept with references
        "dino": 6,
        "arm_similarity": 12,  # 2 cases x 3 pairs of arms x 2 seeds
        "piqe": 12,
    }
    assert read_scores(run) == result.rows
    pairs = {(row.arm, row.other_arm) for row in result.rows if row.metric == "arm_similarity"}
    assert pairs == {("direct", "dropout"), ("direct", "orthogonal"), ("dropout", "orthogonal")}
    assert {row.concept for row in result.rows if row.metric == "dino"} == {"star"}


def test_each_picture_is_decoded_once_and_goes_through_each_model_once(run, weights):
    seen = []
    tally = score_run(run, METRICS, weights=weights, batch_size=4, progress=lambda *count: seen.append(count)).tally
    assert tally.decodes == 15  # 12 images and 3 references
    assert (seen[0], seen[-1]) == ((0, 15), (15, 15))
    assert tally.forwards["clip"] == math.ceil(15 / 4)
    assert tally.forwards["dino"] == math.ceil(15 / 4)
    assert tally.forwards["piqe"] == math.ceil(12 / 4)


def test_the_model_itself_sees_as_many_batches_as_are_counted(run, weights, monkeypatch):
    from evalkit.encoders.clip import ClipEncoder

    seen = []
    original = ClipEncoder.features
    monkeypatch.setattr(ClipEncoder, "features", lambda self, batch: (seen.append(len(batch)), original(self, batch))[1])
    score_run(run, ["clip_t", "clip_i", "arm_similarity"], weights=weights, batch_size=4)
    assert seen == [4, 4, 4, 3]


def test_ten_metrics_share_one_decode_of_each_picture(run, weights, monkeypatch):
    from evalkit.scoring import feature_extraction as extract

    names = ["clip_t", "clip_i", "dino", "arm_similarity", "arm_dino", "arm_psnr", "diversity_clip", "diversity_dino"]
    seen = []
    original = extract.decode
    monkeypatch.setattr(extract, "decode", lambda data, name: (seen.append(name), original(data, name))[1])
    result = score_run(run, [*names, "piqe", "entropy"], weights=weights)
    assert len({row.metric for row in result.rows}) == 10
    assert len(seen) == len(set(seen)) == 15  # 12 images and 3 references


def test_prompts_are_encoded_once_and_references_with_the_images(run, weights, monkeypatch):
    from evalkit.encoders.clip import ClipEncoder

    read = []
    original = ClipEncoder.texts
    monkeypatch.setattr(ClipEncoder, "texts", lambda self, texts: (read.extend(texts), original(self, texts))[1])
    for _ in range(2):
        score_run(run, ["clip_t", "clip_i"], weights=weights)
    assert sorted(read) == ["a photo of star and circle", "a red circle"]


def test_a_batch_of_one_and_a_full_one_give_the_same_bits(run, weights, tmp_path, folder):
    from evalkit.run.import_images import import_images

    import_images(folder, tmp_path / "second")
    names = ["clip_t", "clip_i", "dino", "arm_similarity"]
    rows = score_run(run, names, weights=weights, batch_size=32).rows
    assert score_run(tmp_path / "second", names, weights=weights, batch_size=1).rows == rows


def test_a_second_run_computes_nothing_and_gives_the_same_rows(run, weights):
    cold = score_run(run, METRICS, weights=weights)
    warm = score_run(run, METRICS, weights=weights)
    assert warm.rows == cold.rows
    assert warm.tally.decodes == 0
    assert set(warm.tally.forwards.values()) == {0}


def test_scores_of_images_by_themselves_need_no_cache(run, weights):
    cold = score_run(run, ["piqe"])
    (run / ".cache/features.sqlite").unlink()
    again = score_run(run, ["piqe"])
    assert again.rows == cold.rows
    assert again.tally.decodes == 0


def test_another_metric_is_added_to_what_is_there(run, weights):
    first = score_run(run, ["piqe"])
    both = score_run(run, ["clip_t"], weights=weights)
    assert {row.metric for row in both.rows} == {"piqe", "clip_t"}
    assert [row for row in both.rows if row.metric == "piqe"] == first.rows


def test_other_weights_replace_the_scores_and_say_so(run, weights, tmp_path):
    from tests.evalkit.tiny_encoders import save_tiny_clip

    before = score_run(run, ["clip_t"], weights=weights)
    after = score_run(run, ["clip_t"], weights={"clip": save_tiny_clip(tmp_path / "other", seed=5)})
    assert len(after.rows) == len(before.rows)
    assert {row.signature for row in after.rows}.isdisjoint(row.signature for row in before.rows)
    assert any("clip_t" in note and "replaced" in note for note in after.notes)


def test_batch_size_changes_no_score(run, weights, tmp_path, folder):
    from evalkit.run.import_images import import_images

    import_images(folder, tmp_path / "second")
    one = score_run(run, METRICS, weights=weights, batch_size=1)
    many = score_run(tmp_path / "second", METRICS, weights=weights, batch_size=32)
    assert [row.signature for row in one.rows] == [row.signature for row in many.rows]
    for left, right in zip(one.rows, many.rows, strict=True):
        assert left.value == pytest.approx(right.value, abs=1e-5)


def test_one_corrupt_image_costs_its_own_rows_only(run, weights):
    bad = run / "images/both/dropout/7.png"
    bad.write_bytes(bad.read_bytes()[:600])
    result = score_run(run, METRICS, weights=weights)
    assert any("both/dropout/7.png" in problem.reason for problem in result.problems)
    assert not any((row.case, row.arm, row.seed) == ("both", "dropout", 7) for row in result.rows)
    counts = Counter(row.metric for row in result.rows)
    assert counts["piqe"] == counts["clip_t"] == 11
    assert counts["arm_similarity"] == 10


def test_an_unreadable_reference_costs_the_scores_of_its_concept(run, weights):
    (run / "references/star/01.jpg").write_bytes(b"no picture")
    result = score_run(run, METRICS, weights=weights)
    assert not any(row.metric in ("clip_i", "dino") for row in result.rows)
    assert any("clip_i of star" in problem.reason for problem in result.problems)
    assert sum(row.metric == "clip_t" for row in result.rows) == 12


def test_a_lost_file_and_a_lacking_image_are_named(run):
    (run / "images/both/direct/0.png").unlink()
    with pytest.raises(UserError, match=r"images/both/direct/0\.png"):
        score_run(run, ["piqe"])
    manifest = Manifest.load(run)
    manifest.model_copy(update={"images": manifest.images[1:]}).save(run)
    with pytest.raises(UserError, match="1 image is missing"):
        score_run(run, ["piqe"])


def test_metrics_whose_weights_are_nowhere_are_named_and_the_rest_is_run(run, weights):
    result = score_run(run, ["clip_t", "musiq", "piqe"], weights=weights)
    assert result.not_run == ("musiq",)
    assert "musiq_koniq_ckpt-e95806b9.pth" in result.missing["musiq"]
    assert {row.metric for row in result.rows} == {"clip_t", "piqe"}


def test_a_run_names_its_own_weights(run, weights, clip_folder):
    (run / "weights.toml").write_text(f'[weights]\nclip = "{clip_folder}"\n')
    assert {row.metric for row in score_run(run, ["clip_t"]).rows} == {"clip_t"}


def test_without_references_or_other_arms_a_metric_is_not_offered_and_refused_when_asked_for(tmp_path, folder):
    from evalkit.run.import_images import import_images

    text = (folder / "import.toml").read_text().replace('references = "references/star"\n', "")
    (folder / "references").rename(tmp_path / "away")
    (folder / "import.toml").write_text(text)
    for case in ("both", "alone"):
        for arm in ("dropout", "orthogonal"):
            (folder / case / arm).rename(tmp_path / f"{case}-{arm}")
    import_images(folder, tmp_path / "run")
    names = {card.name for card in default_metrics(Manifest.load(tmp_path / "run"))}
    assert {"clip_t", "piqe"} <= names
    assert not names & {"clip_i", "dino", "arm_similarity"}
    with pytest.raises(UserError, match="clip_i: no concept of this run has references"):
        score_run(tmp_path / "run", ["clip_i"])


def test_a_damaged_score_file_is_made_anew(run: Path):
    (run / "scores.parquet").write_bytes(b"PAR1 nonsense")
    result = score_run(run, ["piqe"])
    assert len(read_scores(run)) == 12
    assert any("rebuilt" in note for note in result.notes)


def test_an_arm_equal_to_another_has_similarity_1(run, folder, weights, tmp_path):
    from evalkit.run.import_images import import_images

    for case in ("both", "alone"):
        for seed in (0, 7):
            (folder / case / "dropout" / f"{seed}.png").write_bytes((folder / case / "direct" / f"{seed}.png").read_bytes())
    import_images(folder, tmp_path / "same")
    rows = score_run(tmp_path / "same", ["arm_similarity"], weights=weights).rows
    same = [row.value for row in rows if (row.arm, row.other_arm) == ("direct", "dropout")]
    assert same == pytest.approx([1.0] * 4, abs=1e-12)
