"""Concept metrics on tinyworld, whose renderer knows which concept is where."""

import json
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import generation.tinyworld
from evalkit.encoders.concept_crops import ConceptCrops
from evalkit.encoders.detectors import FlatBackgroundDetector
from evalkit.encoders.dino import DINO, load_dino
from evalkit.metric_spec.concept_scores import ConceptReference, Detections, assess, identities, identity_thresholds
from evalkit.run.import_images import import_images
from evalkit.scoring.run_scorer import score_run
from evalkit.weights.lookup import find
from generation.tinyworld.concepts import CONCEPTS
from generation.tinyworld.scene import BACKGROUNDS, Pose, draw_poses, paint

DINO_FOLDER = Path(generation.tinyworld.__file__).parent / "weights" / "dino"
NAMES = list(CONCEPTS)


@cache
def crops(dilation: int = 1) -> ConceptCrops:
    """Return the segmentation of flat backgrounds with tinyworld's DINO on the crops."""
    return ConceptCrops(FlatBackgroundDetector(dilation), load_dino(find(DINO, {"dino": DINO_FOLDER}), "cpu"))


def tensor(pixels):
    import torch

    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@cache
def references() -> dict[str, list[np.ndarray]]:
    """Return the features of each concept's five references, cropped by the detector."""
    features = {}
    for name, concept in CONCEPTS.items():
        seen = [Detections.unpack(crops().detect(tensor(concept.reference(number)), ("object",))) for number in range(5)]
        features[name] = np.stack([one.crops[0] if len(one.crops) == 1 else one.whole for one in seen])
    return features


def concepts(*names: str) -> list[ConceptReference]:
    """Return concepts with thresholds from all references."""
    limits = identity_thresholds(references())
    return [ConceptReference(name, 0, references()[name], 0.5, limits[name]) for name in names]


def true_box(look, pose):
    """Return the tight box of an object: its extent in white on black."""
    silhouette = paint((lambda u, v: (look(u, v)[0], np.full((*u.shape, 3), 255.0)),), (pose,), (0, 0, 0)).max(axis=2) > 127
    rows, columns = np.flatnonzero(silhouette.any(axis=1)), np.flatnonzero(silhouette.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def auc(present, absent):
    """Return the probability that a present concept scores above an absent one."""
    difference = np.subtract.outer(np.array(present), np.array(absent))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def rendered(pair, rng):
    """Return an image of two concepts, and their true boxes."""
    poses = draw_poses(2, rng)
    looks = tuple(CONCEPTS[name].look for name in pair)
    background = list(BACKGROUNDS.values())[rng.integers(len(BACKGROUNDS))]
    boxes = np.array([true_box(look, pose) for look, pose in zip(looks, poses, strict=True)], dtype=np.float32)
    return paint(looks, poses, background), boxes


def test_presence_by_the_best_crop_is_nearly_certain_and_by_the_whole_image_is_not():
    """Section 1 of the reference: AUC .995 by true boxes, .83 by the whole image."""
    rng = np.random.default_rng(0)
    everyone = concepts(*NAMES)
    by_crop, by_whole, right = ([], []), ([], []), []
    for pair in combinations(NAMES, 2):
        pixels, boxes = rendered(pair, rng)
        seen = crops().encoded(Image.fromarray(pixels), boxes, np.ones((2, 1), dtype=np.float32))
        similarity = identities(seen.crops, everyone)
        whole = identities(seen.whole[None], everyone)[0]
        for column, name in enumerate(NAMES):
            by_crop[name not in pair].append(similarity[:, column].max())
            by_whole[name not in pair].append(whole[column])
        result = assess(seen, concepts(*pair))
        right.append(not result.swapped)
    assert auc(*by_crop) > 0.985
    assert auc(*by_whole) < 0.92
    assert np.mean(right) == 1


def scene(rng, count):
    """Return an image of `count` different concepts placed anywhere without overlap, and their names."""
    names = [NAMES[index] for index in rng.permutation(len(NAMES))[:count]]
    while True:
        poses = tuple(Pose(*rng.uniform(12, 52, 2), half=rng.uniform(9, 13), turn=rng.uniform(-0.15, 0.15)) for _ in names)
        # silhouettes reach beyond the half-size by a tenth at most
        gaps = (max(abs(a.x - b.x), abs(a.y - b.y)) - 1.1 * (a.half + b.half) for a, b in combinations(poses, 2))
        if all(gap > 0 for gap in gaps):
            break
    background = list(BACKGROUNDS.values())[rng.integers(len(BACKGROUNDS))]
    return paint(tuple(CONCEPTS[name].look for name in names), poses, background), names


def presence_auc(count):
    """Return the AUC of presence in scenes of none to three concepts, with no truth used."""
    rng = np.random.default_rng(1)
    everyone = concepts(*NAMES)
    scores = ([], [])
    for number in range(count):
        pixels, names = scene(rng, number % 4)
        seen = Detections.unpack(crops(2).detect(tensor(pixels), ("object",)))
        best = identities(seen.crops, everyone).max(axis=0, initial=-1.0)
        for column, name in enumerate(NAMES):
            scores[name not in names].append(best[column])
    return auc(*scores)


def test_presence_end_to_end_by_segmentation():
    assert presence_auc(60) > 0.93


@pytest.mark.slow
def test_presence_end_to_end_by_segmentation_in_400_scenes():
    """The reference measured .971."""
    assert presence_auc(400) > 0.955


def test_leaked_colours_turn_the_margin_at_one_half():
    """Paint A's shape with t x B's colours: the margin falls and changes its sign near t = 0.5."""
    first, second = "face_star", "medic_heart"
    margins = []
    for share in (0.0, 0.5, 1.0):

        def look(u, v, share=share):
            mask, colours = CONCEPTS[first].look(u, v)
            return mask, (1 - share) * colours + share * CONCEPTS[second].look(u, v)[1]

        pixels = paint((look,), (Pose(32, 32, 14, 0.0),), BACKGROUNDS["grey"])
        seen = Detections.unpack(crops().detect(tensor(pixels), ("object",)))
        own, other = identities(seen.crops, concepts(first, second))[0]
        margins.append(own - other)
    assert margins[0] > 0.2 > margins[1] > margins[2]


ARMS = {
    "both": ("face_star", "medic_heart"), "missing": ("face_star",), "doubled": ("face_star", "face_star", "medic_heart"),
    "nothing": (), "strangers": ("keyhole_square", "flag_triangle"),
}  # fmt: skip
DESCRIPTION = """
name = "tiny concepts"
[[cases]]
id = "pair"
concepts = ["face_star", "medic_heart"]
prompt = "a star and a heart"
plain_prompt = "a star and a heart"
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Return the scores of all concept metrics by arm, metric and concept, and the result of scoring."""
    root = tmp_path_factory.mktemp("concepts")
    folder = root / "images"
    lines = [DESCRIPTION]
    for name in ("face_star", "medic_heart"):
        words = CONCEPTS[name]
        lines.append(f'[[concepts]]\nname = "{name}"\nwords = "{words.words}"\nclass_word = "{words.class_word}"\n')
        lines.append(f'references = "references/{name}"\n')
        (folder / "references" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(words.reference(number)).save(folder / "references" / name / f"{number}.png")
    for arm, names in ARMS.items():
        for seed in range(3):
            path = folder / "pair" / arm / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            places = [(15, 16), (48, 18), (32, 48)]
            poses = tuple(Pose(x + seed, y, 11, 0.1 * seed) for x, y in places[: len(names)])
            pixels = paint(tuple(CONCEPTS[name].look for name in names), poses, BACKGROUNDS["grey"])
            Image.fromarray(pixels).save(path)
    (folder / "import.toml").write_text("".join(lines))
    import_images(folder, root / "run")
    (root / "config.json").write_text(json.dumps({"model_type": "flat_background", "dilation": 1}))
    metrics = ["concept_presence", "concept_count", "concept_identity", "concept_margin", "concept_swap", "concept_duplicates"]
    given = {"dino": DINO_FOLDER, "detector": root / "config.json"}
    result = score_run(root / "run", [*metrics, "all_present"], weights=given)
    again = score_run(root / "run", [*metrics, "all_present"], weights=given)
    assert again.tally.decodes == 0
    assert list(again.rows) == list(result.rows)
    table: dict[tuple[str, str, str], list[float]] = {}
    for row in result.rows:
        table.setdefault((row.arm, row.metric, row.concept), []).append(row.value)
    return table, result


def test_a_run_has_the_truth_of_each_arm(rows):
    table, result = rows
    assert not result.problems
    for arm, wanted in {"both": 1, "missing": 0, "doubled": 1, "nothing": 0, "strangers": 0}.items():
        assert table[arm, "all_present", ""] == [wanted] * 3
    assert table["missing", "concept_presence", "face_star"] == [1] * 3
    assert table["missing", "concept_presence", "medic_heart"] == [0] * 3
    assert table["both", "concept_duplicates", ""] == [0] * 3
    assert table["doubled", "concept_duplicates", ""] == [1] * 3
    assert table["doubled", "concept_count", "face_star"] == [2] * 3
    assert table["both", "concept_count", "medic_heart"] == [1] * 3
    assert table["both", "concept_swap", ""] == [0] * 3
    assert min(table["both", "concept_margin", "face_star"]) > 0


def test_what_is_not_detected_has_no_identity_and_is_noted(rows):
    table, result = rows
    assert ("nothing", "concept_identity", "face_star") not in table
    assert ("nothing", "concept_swap", "") not in table
    assert table["nothing", "concept_presence", "face_star"] == [0] * 3
    assert any("no object for" in note for note in result.notes)
    assert any("thresholds from the references: face_star" in note for note in result.notes)
