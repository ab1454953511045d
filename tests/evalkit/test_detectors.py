"""Detectors of transformers at random weights: boxes and phrases as transformers computes them, without competition."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import generation.tinyworld
from evalkit.encoders.concept_crops import crop, suppressed
from evalkit.encoders.detectors import FlatBackgroundDetector, load_detector
from evalkit.errors import UserError
from evalkit.metric_spec.concept_scores import (
    ConceptReference,
    Detections,
    assess,
    corrected_rate,
    detection_threshold,
    equal_error_threshold,
    identity_thresholds,
)
from evalkit.weights.lookup import Weights
from tests.evalkit.conftest import picture

TOKENIZER = Path(generation.tinyworld.__file__).parent / "weights/base/tokenizer"


def save_owl(folder, kind):
    """Save a tiny random OWL-ViT or OWLv2 with its processor."""
    import transformers

    stem = {"owlvit": "OwlViT", "owlv2": "Owlv2"}[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER, model_max_length=16)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    vision = {**sizes, "image_size": 64, "patch_size": 16}
    config = getattr(transformers, f"{stem}Config")(text_config=text, vision_config=vision, projection_dim=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(transformers, f"{stem}ForObjectDetection")(config)
    net.save_pretrained(folder)
    images = getattr(transformers, f"{stem}ImageProcessor")(size={"height": 64, "width": 64})
    getattr(transformers, f"{stem}Processor")(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return Weights((folder / "model.safetensors",), "0" * 64, "this test", folder)


def save_grounding_dino(folder):
    """Save a tiny random GroundingDINO with its processor and a vocabulary of BERT's form."""
    import transformers

    folder.mkdir()
    words = ["[PAD]", *(f"[unused{number}]" for number in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"[filler{number}]" for number in range(len(words), 1012)] + [".", *(f"w{number}" for number in range(16)), "?"]
    words += ["a", "red", "star", "heart", "moon", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), vocab_file=str(folder / "vocab.txt"))
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage2", "stage3", "stage4"], out_indices=[2, 3, 4],
    )  # fmt: skip
    text = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config={**text, "vocab_size": len(words)}, d_model=32, encoder_layers=1,
        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_queries=12,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = transformers.GroundingDinoForObjectDetection(config)
    net.save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    transformers.GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return Weights((folder / "model.safetensors",), "0" * 64, "this test", folder)


@pytest.fixture(scope="module", params=["owlvit", "owlv2"])
def owl(request, tmp_path_factory):
    return load_detector(save_owl(tmp_path_factory.mktemp("owl") / request.param, request.param), "cpu")


def test_one_phrase_equals_what_transformers_detects(owl):
    image = picture(0, (90, 60))
    boxes, scores = owl.detect(image, ("a star",))
    inputs = owl._processor(text=[["a star"]], images=image, return_tensors="pt")
    with torch.inference_mode():
        outputs = owl.net(**inputs)
    (theirs,) = owl._processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, target_sizes=[image.size[::-1]], text_labels=[["a star"]]
    )
    assert np.allclose(scores[:, 0], theirs["scores"], atol=1e-6)
    limits = np.array([image.width, image.height] * 2)
    assert np.allclose(boxes, theirs["boxes"].numpy().clip(0, limits), atol=1e-3)


def test_phrases_do_not_compete(owl):
    image = picture(1)
    alone = [owl.detect(image, (phrase,))[1][:, 0] for phrase in ("a star", "a red star")]
    together = owl.detect(image, ("a star", "a red star"))[1]
    assert np.allclose(together, np.stack(alone, axis=1), atol=1e-6)
    assert np.array_equal(owl.detect(image, ("a red star", "a star"))[1], together[:, ::-1])


def test_grounding_dino_scores_each_phrase_by_its_own_tokens(tmp_path):
    detector = load_detector(save_grounding_dino(tmp_path / "grounding"), "cpu")
    boxes, scores = detector.detect(picture(0, (80, 60)), ("a red star", "moon"))
    assert scores.shape == (12, 2)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (boxes[:, 0::2] >= 0).all()
    assert (boxes[:, 0::2] <= 80).all()
    tokens = detector._processor(text="a red star. moon.", images=picture(0), return_tensors="pt")["input_ids"][0].tolist()
    words = detector._processor.tokenizer.convert_ids_to_tokens(tokens)
    assert words == ["[CLS]", "a", "red", "star", ".", "moon", ".", "[SEP]"]


def test_a_folder_of_no_detector_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="no detector of model_type 'bert'"):
        load_detector(Weights((tmp_path / "model.safetensors",), "", "test", tmp_path), "cpu")
    with pytest.raises(UserError, match="has no model_type 'flat_background'"):
        load_detector(Weights((tmp_path / "config.json",), "", "test"), "cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="can't be read"):
        load_detector(Weights((tmp_path / "config.json",), "", "test"), "cpu")


def test_overlaps_are_removed_within_a_phrase_and_boxes_kept_across_phrases():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10.5], [4, 0, 12, 10], [30, 30, 40, 40]], dtype=np.float32)
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.01], [0.02, 0.03]], dtype=np.float32)
    kept, values = suppressed(boxes, scores)
    assert kept.tolist() == [[0, 0, 10, 10], [4, 0, 12, 10]]
    assert np.allclose(values, [[0.9, 0.8], [0.5, 0]])
    order = [2, 3, 1, 0]
    again = suppressed(boxes[order], scores[order])
    assert np.array_equal(again[0], kept)
    assert np.array_equal(again[1], values)
    nothing = suppressed(boxes[:0], scores[:0])
    assert (nothing[0].shape, nothing[1].shape) == ((0, 4), (0, 2))


def test_a_crop_is_a_grey_square_and_stays_inside_the_image():
    image = Image.new("RGB", (40, 30), "red")
    square = np.asarray(crop(image, np.array([30, 10, 40, 20], dtype=np.float32)))
    assert square.shape == (12, 12, 3)
    assert (square[:, 0] == 127).all() or (square[:, -1] == 127).all()
    assert crop(image, np.array([39.9, 29.9, 40, 30], dtype=np.float32)).size[0] >= 1


def test_flat_background_boxes_are_tight():
    pixels = np.full((40, 50, 3), 200, dtype=np.uint8)
    pixels[5:15, 10:22] = 20
    pixels[25:35, 30:40] = (200, 20, 200)
    pixels[0:2, 0:2] = 20
    boxes, scores = FlatBackgroundDetector().detect(Image.fromarray(pixels), ("a", "b"))
    assert boxes.tolist() == [[10, 5, 22, 15], [30, 25, 40, 35]]
    assert scores.tolist() == [[1, 1], [1, 1]]


def random_case(rng, count=3, boxes=5, width=6):
    seen = Detections(
        rng.uniform(0, 50, (boxes, 4)).astype(np.float32), rng.uniform(0, 1, (boxes, 2)).astype(np.float32),
        rng.normal(size=(boxes, width)).astype(np.float32), rng.normal(size=width).astype(np.float32),
    )  # fmt: skip
    wanted = [
        ConceptReference(f"c{number}", number % 2, rng.normal(size=(4, width)).astype(np.float32), 0.3, 0.1)
        for number in range(count)
    ]
    return seen, wanted


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_concepts_boxes_and_references_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    seen, wanted = random_case(rng)
    whole = assess(seen, wanted)
    order = rng.permutation(5)
    mixed = Detections(seen.boxes[order], seen.scores[order], seen.crops[order], seen.whole)
    other = assess(
        Detections.unpack(mixed.pack()),
        [
            ConceptReference(c.name, c.phrase, c.references[::-1], c.detection_threshold, c.identity_threshold)
            for c in wanted[::-1]
        ],
    )
    assert other.all_present == whole.all_present
    assert (other.duplicates, other.swapped) == (whole.duplicates, whole.swapped)
    for name, score in whole.concepts.items():
        assert other.concepts[name].presence == score.presence
        assert other.concepts[name].count == score.count
        assert other.concepts[name].identity == pytest.approx(score.identity, abs=1e-12)
        assert other.concepts[name].margin == pytest.approx(score.margin, abs=1e-12)


def test_nothing_found_is_absent_and_never_zero():
    rng = np.random.default_rng(0)
    seen, wanted = random_case(rng, boxes=0)
    result = assess(Detections.unpack(seen.pack()), wanted)
    assert (result.all_present, result.duplicates, result.swapped) == (False, 0, None)
    assert all(
        (one.presence, one.identity, one.margin, one.count) == (False, None, None, 0) for one in result.concepts.values()
    )


def test_thresholds_come_from_references():
    rng = np.random.default_rng(0)
    base = {name: rng.normal(size=8) for name in "ab"}
    features = {name: (mean + 0.1 * rng.normal(size=(5, 8))).astype(np.float32) for name, mean in base.items()}
    limits = identity_thresholds(features)
    assert all(0.8 < limit < 1 for limit in limits.values())
    assert identity_thresholds({"a": features["a"][:1]}) == {"a": -1.0}
    assert equal_error_threshold([0.8, 0.9, 0.2], [0.1, 0.3, 0.25]) == pytest.approx(0.3)
    assert detection_threshold([], 0.25) == 0.25
    images = [np.array([0.9]), *[np.array([0.1])] * 9]
    assert detection_threshold(images, 0.25) == 0.25
    images[1] = np.array([0.6])
    assert 0.6 < detection_threshold(images, 0.25) < 0.61
    assert corrected_rate(0.5, 0.9, 0.9) == pytest.approx(0.5)
    assert corrected_rate(0.05, 0.9, 0.9) == 0
