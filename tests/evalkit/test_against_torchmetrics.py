"""`clip_t` is torchmetrics' CLIPScore where that is right; where it isn't, the difference has a cause."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.multimodal import clip_score
from torchvision.transforms.functional import pil_to_tensor

import evalkit
from evalkit.errors import UserError
from evalkit.scoring.run_scorer import score_run
from tests.evalkit.conftest import picture
from tests.evalkit.transformers_clip import CONTEXT, SIDE, load_peer


@pytest.fixture(scope="module")
def peer(clip_folder: Path):
    """Return the tiny CLIP as transformers' model and processor."""
    return load_peer(clip_folder)


def theirs(peer, picture: torch.Tensor, prompt: str) -> float:
    """Return torchmetrics' score of one image."""
    with torch.inference_mode():
        return float(clip_score(picture, prompt, model_name_or_path=lambda: peer))


def cosine(peer, picture: torch.Tensor, ids: torch.Tensor) -> float:
    """Return the cosine of transformers' own features."""
    model, processor = peer
    with torch.inference_mode():
        image = model.get_image_features(processor(images=picture, return_tensors="pt")["pixel_values"])
        return float(torch.nn.functional.cosine_similarity(image, model.get_text_features(ids)))


def ours(images, prompt: str, folder: Path, **options) -> list[float]:
    """Return our scores on torchmetrics' scale."""
    rows = evalkit.score(images, ["clip_t"], prompts=prompt, preset="torchmetrics", weights={"clip": folder}, **options)
    return [row.value for row in rows]


PROMPTS = ["a photo of star", "red circle on blue background", "an picture of green square and a red star"]


def test_clip_t_is_torchmetrics_for_8_bit_pictures_and_short_prompts(peer, clip_folder):
    positive = 0
    for seed, prompt in enumerate(PROMPTS):
        image = picture(seed, (SIDE, SIDE))
        (own,) = ours([image], prompt, clip_folder)
        # torchmetrics counts a mean below 0 as 0
        assert max(own, 0) == pytest.approx(theirs(peer, pil_to_tensor(image), prompt), abs=1e-3)
        positive += own > 0
        tokens = peer[1].tokenizer(prompt, return_tensors="pt")["input_ids"]
        assert own == pytest.approx(100 * cosine(peer, pil_to_tensor(image), tokens), abs=1e-3)
    assert positive


def test_another_size_is_shrunk_by_pillow_here_and_by_torchvision_there(peer, clip_folder):
    image = picture(5, (300, 200))
    (own,) = ours([image], PROMPTS[0], clip_folder)
    tokens = peer[1].tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    there = 100 * cosine(peer, pil_to_tensor(image), tokens)
    assert own == pytest.approx(there, abs=0.5)
    assert own != pytest.approx(there, abs=1e-6)


def test_torchmetrics_cuts_a_long_prompts_end_token_off_and_we_keep_and_count_it(peer, clip_folder):
    image, prompt = picture(1, (SIDE, SIDE)), " ".join(["red star and blue circle"] * 4)
    with pytest.warns(UserWarning, match="clip_t: 1 of 1 prompt too long for the model; truncated, end token kept"):
        (own,) = ours([image], prompt, clip_folder)
    ids = peer[1].tokenizer(prompt, return_tensors="pt")["input_ids"][:, :CONTEXT]
    end = peer[1].tokenizer.eos_token_id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = theirs(peer, pil_to_tensor(image), prompt)
    assert there == pytest.approx(max(100 * cosine(peer, pil_to_tensor(image), ids), 0), abs=1e-3)
    assert end not in ids
    kept = torch.cat((ids[:, :-1], torch.tensor([[end]])), dim=1)
    assert own == pytest.approx(100 * cosine(peer, pil_to_tensor(image), kept), abs=1e-3)
    assert abs(own - 100 * cosine(peer, pil_to_tensor(image), ids)) > 0.01


def test_floats_between_0_and_1_are_divided_by_255_twice_there_and_refused_here(peer, clip_folder):
    image = picture(2, (SIDE, SIDE))
    floats = pil_to_tensor(image).float() / 255
    tokens = peer[1].tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    prepared = peer[1](images=floats, return_tensors="pt")["pixel_values"]
    assert float(prepared.std(dim=(2, 3)).max()) < 0.02  # an almost constant picture
    (right,) = ours([image], PROMPTS[0], clip_folder)
    assert abs(100 * cosine(peer, floats, tokens) - right) > 0.1
    with pytest.raises(UserError, match="value_range"):
        ours([floats], PROMPTS[0], clip_folder)
    assert ours([floats], PROMPTS[0], clip_folder, value_range=(0, 1)) == pytest.approx([right], abs=1e-3)


def test_negative_cosines_stay_negative_rows(peer, clip_folder):
    """torchmetrics would call all of them 0; clamping rows as well would lift every mean."""
    images = [picture(seed, (SIDE, SIDE)) for seed in range(4)]
    scores = np.array([ours(images, prompt, clip_folder) for prompt in (*PROMPTS, "b", "blue", "c d e f g", "star star")])
    assert scores.min() < 0 < scores.max()


def test_a_run_says_how_many_of_its_prompts_were_cut(folder, tmp_path, weights):
    from evalkit.run.import_images import import_images

    text = (folder / "import.toml").read_text()
    (folder / "import.toml").write_text(text.replace("a red <c> circle", "a red <c> circle " + "and a star " * 9))
    import_images(folder, tmp_path / "long")
    notes = score_run(tmp_path / "long", ["clip_t"], weights=weights).notes
    assert "clip_t: 1 of 2 prompts too long for the model; truncated, end token kept" in notes
