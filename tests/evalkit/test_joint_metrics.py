"""Metrics whose model sees an image with its prompt or with a reference: cached, signed and kept whole like all others."""

import numpy as np
import pytest
import torch
from PIL import Image

import evalkit
from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.signature import ModelRecipe
from evalkit.run.manifest import Manifest
from evalkit.scoring.run_scorer import score_run
from tests.evalkit.conftest import picture


class Joint:
    """Base of a user's joint model: full-size pixels; calls are counted."""

    largest_batch, smallest_side = 1, 1

    def __init__(self, name):
        self.recipe = ModelRecipe(name, "", "native-size", "fp32", ())
        self.calls = 0

    def prepare(self, pixels):
        return torch.from_numpy(pixels.array().transpose(2, 0, 1).copy())


class Judge(Joint):
    """Scores an image and a text by the mean level and the text's length; fails for black."""

    def judge(self, image, text):
        self.calls += 1
        level = float(image.float().mean())
        if level == 0:
            raise RuntimeError("black\nimage")
        return level / 1000 + len(text)


class Distance(Joint):
    """Absolute difference of mean levels."""

    def compare(self, left, right):
        self.calls += 1
        if not float(left.float().mean()) or not float(right.float().mean()):
            raise RuntimeError("black")
        size = min(left.shape[-1], right.shape[-1])
        return float((left.float().mean() - right.float().mean()).abs()) if size else 0.0

    def prepare(self, pixels):
        image = pixels.image.resize((16, 16))
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def cards():
    judge, distance = Judge("judge"), Distance("distance")
    options = {"direction": "higher", "unit": "u", "limits": (None, None), "source": "this test", "licence": "none"}

    @metric(needs="text_image", **options)
    def answer(weights, device):
        """Ask about the image."""
        return judge

    @metric(needs="image_pair", **options)
    def gap(weights, device):
        """Compare levels."""
        return distance

    return answer, gap, judge, distance


def level(image):
    return float(np.asarray(image.convert("RGB").resize((16, 16)), dtype=np.float64).mean())


def test_joint_metrics_score_loose_images_and_keep_what_succeeds():
    answer, gap, _, _ = cards()
    images = [picture(0), Image.new("RGB", (80, 72)), picture(1)]
    references = {"a": [picture(2), picture(3)], "b": [picture(4)]}
    scores = evalkit.score(images, [answer, gap], prompts=["x", "yy", "zzz"], references=references, on_error="skip")
    values = {(index, row.metric, row.concept): row.value for index, row in zip(scores.indices, scores, strict=True)}
    assert sorted(values) == [
        (index, name, concept) for index in (0, 2) for name, concept in (("answer", ""), ("gap", "a"), ("gap", "b"))
    ]
    assert [values[0, "answer", ""] // 1, values[2, "answer", ""] // 1] == [1, 3]
    expected = np.mean([abs(level(images[2]) - level(reference)) for reference in references["a"]])
    assert values[2, "gap", "a"] == pytest.approx(expected, abs=1e-4)
    assert {problem.name for problem in scores.problems} <= {
        "images[1]",
        "reference 0 of a",
        "reference 1 of a",
        "reference 0 of b",
    }
    reasons = [problem.reason for problem in scores.problems]
    assert "images[1]: answer fails: RuntimeError: black; mend the metric, or leave it out" in reasons
    flipped = evalkit.score(images[:1], [gap], references={"a": references["a"][::-1]})
    assert flipped[0].value == values[0, "gap", "a"]


def test_joint_metrics_need_prompts_and_references():
    answer, gap, _, _ = cards()
    with pytest.raises(UserError, match="compares images with prompts"):
        evalkit.score([picture(0)], [answer])
    with pytest.raises(UserError, match="compares images with references"):
        evalkit.score([picture(0)], [gap])


def test_joint_metrics_of_a_run_are_cached_and_signed(run):
    answer, gap, judge, distance = cards()
    manifest = Manifest.load(run)
    result = score_run(run, [answer, gap])
    assert not result.problems
    rows = {name: [row for row in result.rows if row.metric == name] for name in ("answer", "gap")}
    prompts = {case.id: case.plain_prompt for case in manifest.cases}
    assert [int(row.value) for row in rows["answer"]] == [len(prompts[row.case]) for row in rows["answer"]]
    assert len(rows["answer"]) == 12
    shown = [level(Image.open(run / image.path)) for image in manifest.concept("star").references]
    paths = {image.sha256: image.path for image in manifest.images}
    assert [(row.concept, row.case) for row in rows["gap"]] == [("star", "both")] * 6
    for row in rows["gap"]:
        own = level(Image.open(run / paths[row.image_sha256]))
        assert row.value == pytest.approx(np.mean([abs(own - other) for other in shown]), abs=1e-4)
    assert (judge.calls, distance.calls) == (12, 18)
    assert {row.signature.split("|")[5] for row in result.rows} == {"joint", "pair-mean-refs"}
    again = score_run(run, [answer, gap])
    assert list(again.rows) == list(result.rows)
    assert (judge.calls, distance.calls, again.tally.decodes) == (12, 18, 0)


def test_a_broken_image_or_reference_costs_its_own_rows(run):
    answer, gap, _, _ = cards()
    manifest = Manifest.load(run)
    both = [image for image in manifest.images if image.case == "both"]
    (run / both[0].path).write_bytes(b"broken")
    result = score_run(run, [answer, gap])
    assert sum(row.metric == "answer" for row in result.rows) == 11
    assert sum(row.metric == "gap" for row in result.rows) == 5
    assert {problem.name for problem in result.problems} == {both[0].path}
    (run / manifest.concept("star").references[1].path).write_bytes(b"broken")
    (run / ".cache/features.sqlite").unlink()
    result = score_run(run, [gap])
    assert not result.rows or {row.metric for row in result.rows} == {"answer"}
    assert any("gap of star was not scored, for references/star/" in problem.reason for problem in result.problems)
