"""The library call: laws of similarity, and what bad arguments get."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import evalkit
from evalkit.cli.score_output import print_scores
from evalkit.errors import UserError
from evalkit.metric_spec.similarity import cosine, cosine_matrix
from evalkit.run.score_table import RunScore
from evalkit.scoring.result import ScoringResult
from evalkit.scoring.summary import summarise
from tests.evalkit.conftest import picture

VECTORS = arrays(np.float32, (3, 8), elements=st.floats(-10, 10, width=32)).filter(
    lambda rows: bool((np.linalg.norm(rows, axis=1) > 1e-3).all())
)


@settings(deadline=None)  # a busy machine is no failure
@given(VECTORS)
def test_cosine_of_a_vector_with_itself_is_1_whatever_its_length(rows):
    assert np.allclose(cosine(rows, rows), 1, atol=1e-12)
    assert np.allclose(cosine(rows, 3 * rows), 1, atol=1e-6)
    assert np.allclose(cosine(rows, -rows), -1, atol=1e-12)


@settings(deadline=None)  # a busy machine is no failure
@given(VECTORS, VECTORS)
def test_cosine_is_symmetric_bounded_and_the_matrix_diagonal(left, right):
    matrix = cosine_matrix(left, right)
    assert np.allclose(matrix, cosine_matrix(right, left).T, atol=1e-12)
    assert np.allclose(np.diag(matrix), cosine(left, right), atol=1e-12)
    assert (np.abs(matrix) <= 1).all()


def test_a_vector_without_direction_has_no_cosine():
    with pytest.raises(ValueError, match="has no direction"):
        cosine(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="has no direction"):
        cosine(np.array([np.nan, 1.0]), np.ones(2))


def similarity(references, weights, image=None):
    """Return clip_i and dino of one image against references."""
    rows = evalkit.score([image or picture(1)], ["clip_i", "dino"], references=references, weights=weights)
    return [row.value for row in rows]


def test_an_image_against_itself_is_1(weights):
    assert similarity([picture(1)], weights) == pytest.approx([1, 1], abs=1e-6)


def test_order_and_repetition_of_references_change_nothing(weights):
    references = [picture(seed) for seed in (10, 11, 12)]
    plain = similarity(references, weights)
    assert similarity(references[::-1], weights) == pytest.approx(plain, abs=1e-6)
    assert similarity(references * 2, weights) == pytest.approx(plain, abs=1e-6)


def test_a_score_against_references_is_the_mean_over_the_full_row(weights):
    references = [picture(seed) for seed in (10, 11, 12)]
    each = np.mean([similarity([reference], weights) for reference in references], axis=0)
    assert similarity(references, weights) == pytest.approx(each.tolist(), abs=1e-6)


def test_paths_and_pictures_in_memory_score_alike_and_rows_are_in_order(weights, save):
    images = [picture(1), picture(2)]
    paths = [save(image, f"{number}.png") for number, image in enumerate(images)]
    references = {"star": [picture(5)], "moon": [picture(6)]}
    options = {"prompts": ["a star", "a red circle"], "references": references, "weights": weights}
    memory = evalkit.score(images, ["clip_t", "dino"], **options)
    files = evalkit.score([str(paths[0]), paths[1]], ["dino", "clip_t"], **options)
    assert [(row.metric, row.concept) for row in memory] == [("clip_t", ""), ("dino", "star"), ("dino", "moon")] * 2
    assert [row.image for row in files[::3]] == [str(path) for path in paths]
    assert [row.image for row in memory[::3]] == ["images[0]", "images[1]"]
    assert [row.value for row in files] == pytest.approx([row.value for row in memory], abs=1e-6)


def test_the_same_picture_twice_is_scored_twice_and_computed_once(weights):
    rows = evalkit.score([picture(1), picture(1)], ["clip_t"], prompts="a star", weights=weights)
    assert len(rows) == 2
    assert rows[0].value == rows[1].value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["clip_t"]}, r"clip_t compares images with prompts; give prompts="),
        ({"metrics": ["clip_t"], "prompts": ["a", "b"]}, r"2 prompts for 1 image;"),
        ({"metrics": ["clip_t"], "prompts": [" "]}, r"prompts\[0\]: is empty"),
        ({"metrics": ["dino"]}, r"dino compares images with references; give references="),
        ({"metrics": ["dino"], "references": []}, r"references: give a list of at least one image"),
        ({"metrics": ["dino"], "references": {"star": "a.png"}}, r"references of star: is a single image; give a list"),
        ({"metrics": ["arm_similarity"]}, r"compares two arms of a run; use `evalkit score RUN`"),
        ({"metrics": "clip_t"}, r"metrics: is a single metric; give a list"),
        ({"metrics": []}, r"metrics: is empty; evalkit\.list_metrics\(\) lists the names"),
        ({"metrics": ["piqe"], "preset": "nope"}, r"no preset 'nope'; known: dreambooth, "),
        ({"metrics": ["piqe"], "batch_size": 0}, r"batch_size=0: give a whole number of at least 1"),
        ({"metrics": ["piqe"], "device": "tpu9"}, r"device 'tpu9': is unavailable on this machine"),
        ({"metrics": ["piqe"], "images": [3]}, r"images\[0\]: is of type int, not an image; give a path, a PIL image"),
        ({"metrics": ["piqe"], "images": ["gone.png"]}, r"gone\.png: can't be read: No such file"),
        ({"metrics": ["piqe"], "weights": {"clipp": "x"}}, r"no model 'clipp'; did you mean 'clip'"),
    ],
)
def test_a_bad_argument_gets_one_line(options, message):
    arguments = {"images": [picture(1)], **options}
    with pytest.raises(UserError, match=message):
        evalkit.score(arguments.pop("images"), arguments.pop("metrics"), **arguments)


def row(seed: int, value: float, concept: str = "", other: str = "", arm: str = "a") -> RunScore:
    """Return a score row."""
    return RunScore("case", arm, seed, "0" * 64, "m", concept, other, value, "higher", "s")


def test_a_mean_counts_an_image_once_however_many_concepts_it_shows():
    rows = [row(0, 1.0, "x"), row(0, 3.0, "y"), row(1, 4.0, "x"), row(1, 4.0, "y"), row(0, 9.0, arm="b")]
    first, second, least = summarise(rows)
    assert (first.arm, first.mean, first.n) == ("a", 3.0, 2)
    assert first.error == pytest.approx(1.0)  # values 2 and 4: deviation sqrt(2), over sqrt(2)
    assert (second.arm, second.mean, second.error, second.n) == ("b", 9.0, None, 1)
    # beside it the least of the concepts, of images with several
    assert (least.arm, least.mean, least.n) == ("a", 2.5, 2)
    assert [mean.least for mean in (first, second, least)] == [False, False, True]


def test_a_lost_concept_has_a_line_of_its_own_in_the_table(capsys):
    print_scores(ScoringResult(None, [row(0, 1.0, "x"), row(0, 3.0, "y")]), as_json=False)
    lines = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[word.strip() for word in line] for line in lines] == [["m", "a"], ["m, least concept", "a"]]


def test_a_mean_of_two_arms_names_both():
    assert summarise([row(0, 0.5, other="b")])[0].arm == "a ~ b"
