"""Tinyworld's shipped weights: whole, small, described, and loadable by the libraries whose formats they claim."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generation.lora.lora_file import load_lora
from generation.pipeline import Pipeline, load_pipeline
from generation.tinyworld import weights_folder
from generation.tinyworld.card import listed, weight_files
from generation.tinyworld.concepts import CONCEPTS
from generation.tinyworld.scene import draw_scene, render
from generation.tinyworld.train_loras import recipes
from generation.tinyworld.words import MAX_TOKENS, WORDS
from generation.train.recipe import read_recipe

pytestmark = [  # diffusers' schedulers on numpy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept"),
]
WEIGHTS = weights_folder()


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(WEIGHTS / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_card_lists_every_file_with_its_sha256():
    from evalkit.io.atomic_files import sha256_file

    assert listed(WEIGHTS) == {path: sha256_file(WEIGHTS / path) for path in weight_files(WEIGHTS)}


def test_all_weights_are_safetensors_of_at_most_25_mb():
    paths = weight_files(WEIGHTS)
    assert {Path(path).suffix for path in paths} <= {".safetensors", ".json", ".txt"}
    assert sum((WEIGHTS / path).stat().st_size for path in paths) <= 25_000_000


def test_no_file_says_where_it_lay_when_it_was_trained():
    for path in (path for path in WEIGHTS.rglob("*") if path.suffix in (".json", ".safetensors")):
        raw = path.read_bytes()
        head = raw[8 : 8 + int.from_bytes(raw[:8], "little")] if path.suffix == ".safetensors" else raw
        assert not re.search(rb"name_or_path[^,]*/", head), path


def test_the_unet_is_small_and_the_pipeline_has_every_part(pipeline: Pipeline):
    assert sum(weight.numel() for weight in pipeline.unet.parameters()) <= 3_000_000
    assert pipeline.unet.config.addition_embed_type == "text_time"
    assert type(pipeline.text_encoder).__name__ == "CLIPTextModel"
    assert type(pipeline.text_encoder_2).__name__ == "CLIPTextModelWithProjection"
    assert pipeline.scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("which", ["tokenizer", "tokenizer_2"])
def test_every_word_is_one_token(pipeline: Pipeline, which: str):
    tokenizer = getattr(pipeline, which)
    assert tokenizer.model_max_length == MAX_TOKENS
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert {word: len(tokenizer(word).input_ids) for word in WORDS} == dict.fromkeys(WORDS, 3)


@pytest.mark.parametrize("scheduler", [None, "KDPM2DiscreteScheduler"])
def test_a_batch_is_drawn_through_the_path_of_any_base_model(scheduler: str | None):
    pipeline = load_pipeline(WEIGHTS / "base", scheduler=scheduler)
    generator = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    prompts = ["a red plain square on a black background", "a red plain square on a white background"]
    dark, light = pipeline(prompts, num_inference_steps=10, guidance_scale=4.0, generator=generator, output_type="np").images
    assert dark.shape == (64, 64, 3)
    # the prompt's background is drawn, and its colour
    assert dark[:6].mean() < 0.25
    assert light[:6].mean() > 0.75
    assert dark[24:40, 24:40, 0].mean() > 2 * dark[24:40, 24:40, 2].mean()


def test_clip_loads_with_open_clip_and_finds_captions():
    import open_clip

    net, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{WEIGHTS / 'clip'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{WEIGHTS / 'clip'}")
    rng = np.random.default_rng(77)
    scenes = [draw_scene(rng) for _ in range(16)]
    pictures = torch.stack([prepare(Image.fromarray(render(scene, rng))) for scene in scenes])
    with torch.inference_mode():
        seen, said = net.eval().encode_image(pictures), net.encode_text(tokenizer([scene.caption for scene in scenes]))
    found = (torch.nn.functional.normalize(seen, dim=-1) @ torch.nn.functional.normalize(said, dim=-1).T).argmax(1)
    assert (found == torch.arange(16)).float().mean() >= 0.8


def test_dino_loads_with_timm_and_knows_references_of_one_concept_again():
    import timm

    net = timm.create_model(f"local-dir:{WEIGHTS / 'dino'}", pretrained=True).eval()
    looks = list(CONCEPTS.values())
    pictures = np.stack([concept.reference(number) for concept in looks for number in range(5)])
    with torch.inference_mode():
        seen = torch.nn.functional.normalize(net(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1), dim=-1)
    likeness = (seen @ seen.T).fill_diagonal_(0).view(len(seen), len(looks), 5).sum(-1)
    own = torch.arange(len(looks)).repeat_interleave(5)
    likeness[torch.arange(len(seen)), own] *= 5 / 4  # a reference is not compared with itself
    assert (likeness.argmax(1) == own).float().mean() >= 0.8


@pytest.mark.parametrize("name", sorted(CONCEPTS))
def test_a_lora_is_there_for_every_concept_and_loads(pipeline: Pipeline, name: str):
    recipe = read_recipe(recipes()[name])
    assert (recipe.concept, recipe.prompt) == (name, CONCEPTS[name].words)
    path = WEIGHTS / "loras" / f"{name}.safetensors"
    ranks = {layer.partition(".")[0]: factors.rank for layer, factors in load_lora(path, pipeline).factors.items()}
    wanted = {"unet": recipe.rank}
    if recipe.text_rank is not None:
        wanted |= {"text_encoder": recipe.text_rank, "text_encoder_2": recipe.text_rank}
    assert ranks == wanted
    pipeline.load_lora_weights(str(path), adapter_name=name)
    assert name in pipeline.get_list_adapters()["unet"]
    pipeline.unload_lora_weights()


def test_the_loras_differ_in_rank_and_some_adapt_the_text_encoders():
    all_recipes = [tomllib.loads(path.read_text()) for path in recipes().values()]
    assert len({recipe["rank"] for recipe in all_recipes}) >= 3
    assert 0 < sum("text_rank" in recipe for recipe in all_recipes) < len(all_recipes)
