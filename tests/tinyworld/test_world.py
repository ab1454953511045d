"""Tinyworld's scenes, captions, vocabulary and concepts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.tinyworld.concepts import ALL_CONCEPTS, CONCEPTS, REFERENCES
from generation.tinyworld.pools import draw_odd_objects
from generation.tinyworld.scene import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_THINGS,
    SHAPES,
    TEXTURES,
    TRAINING_THINGS,
    Scene,
    Thing,
    all_things,
    draw_scene,
    held_out,
    loose_caption,
    render,
)
from generation.tinyworld.words import CONCEPT_TOKENS, WORDS, write_tokenizer


def test_the_world_is_as_large_as_promised():
    assert (len(SHAPES), len(COLOURS), len(TEXTURES), len(BACKGROUNDS)) == (8, 8, 4, 5)
    assert not set(COLOURS) & set(BACKGROUNDS)
    assert len(CONCEPTS) >= 8


def test_a_caption_says_every_fact_from_left_to_right():
    scene = Scene((Thing("red", "striped", "star"), Thing("orange", "plain", "disc")), "grey")
    assert scene.caption == "a red striped star and an orange plain disc on a grey background"


@given(st.integers(0, 2**32))
def test_a_scene_follows_from_its_seed_and_is_never_a_held_out_one(seed: int):
    first, second = (draw_scene(np.random.default_rng(seed)) for _ in range(2))
    assert first == second
    assert not any(held_out(thing) for thing in first.things)
    assert len({thing.shape for thing in first.things}) == len(first.things) <= 2


@given(st.integers(0, 2**32))
def test_captions_name_only_words_of_the_vocabulary_and_facts_of_the_scene(seed: int):
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    loose = loose_caption(scene, rng)
    assert set(scene.caption.split()) | set(loose.split()) <= set(WORDS)
    facts = {*COLOURS, *SHAPES, *TEXTURES, *BACKGROUNDS}
    assert set(loose.split()) & facts <= set(scene.caption.split())


def test_pixels_follow_from_the_generator_and_leave_the_global_one_alone():
    scene = Scene((Thing("blue", "checked", "heart"),), "white")
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this is about the global generator
    first, second = (render(scene, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert not np.array_equal(first, render(scene, np.random.default_rng(4)))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("thing", all_things()[::7], ids=str)
def test_an_object_shows_its_colours_on_its_background(thing: Thing):
    image = render(Scene((thing,), "mint"), np.random.default_rng(0)).reshape(-1, 3).astype(int)
    assert (image[0] == BACKGROUNDS["mint"]).all()
    own = (np.abs(image - COLOURS[thing.colour]).sum(1) < 3).mean()
    shade = (np.abs(image - 0.35 * np.array(COLOURS[thing.colour])).sum(1) < 6).mean()
    assert own > 0.03
    assert (shade > 0.005) == (thing.texture != "plain")


def test_two_objects_stand_left_and_right():
    image = render(Scene((Thing("red", "plain", "disc"), Thing("blue", "plain", "square")), "white"), np.random.default_rng(0))
    assert image[:, :32, 0].mean() > image[:, 32:, 0].mean()
    assert image[:, 32:, 2].mean() > image[:, :32, 2].mean()


def test_an_eighth_is_held_out_and_every_pair_of_facts_is_still_seen():
    assert len(HELD_OUT_THINGS) == 32
    assert len(TRAINING_THINGS) == 224
    assert {(t.colour, t.shape) for t in TRAINING_THINGS} == {(c, s) for c in COLOURS for s in SHAPES}
    assert {(t.colour, t.texture) for t in TRAINING_THINGS} == {(c, x) for c in COLOURS for x in TEXTURES}
    assert {(t.texture, t.shape) for t in TRAINING_THINGS} == {(x, s) for x in TEXTURES for s in SHAPES}


def test_a_new_vocabulary_is_the_same_each_time_and_makes_every_word_one_token(tmp_path: Path):
    from transformers import CLIPTokenizer

    for run in ("a", "b"):
        write_tokenizer(tmp_path / run)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "a")
    assert {word: len(tokenizer(word).input_ids) for word in WORDS} == dict.fromkeys(WORDS, 3)
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_concepts_have_tokens_of_their_own_and_known_class_words():
    tokens = [concept.token for concept in ALL_CONCEPTS.values()]
    assert len(set(tokens)) == len(tokens)
    assert set(tokens) <= set(CONCEPT_TOKENS)
    assert len(CONCEPT_TOKENS) >= 16
    assert {concept.class_word for concept in ALL_CONCEPTS.values()} <= set(SHAPES)
    assert len(ALL_CONCEPTS) >= 15
    assert CONCEPTS["swirl_disc"].words == "an olis disc"


def test_references_are_five_different_images_the_same_each_time():
    for concept in ALL_CONCEPTS.values():
        images = [concept.reference(number) for number in range(REFERENCES)]
        assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in images)
        assert len({image.tobytes() for image in images}) == REFERENCES
        assert all(np.array_equal(image, concept.reference(number)) for number, image in enumerate(images))


def test_odd_objects_follow_from_their_seed_and_none_is_plain():
    images = draw_odd_objects(12, seed=3)
    assert np.array_equal(images[:5], draw_odd_objects(5, seed=3))
    assert len({image.tobytes() for image in images}) == len(images)
    assert all(len(np.unique(image.reshape(-1, 3), axis=0)) > 2 for image in images)


def test_importing_tinyworld_is_light():
    code = "import sys, generation.tinyworld as t; t.weights_folder(); assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
