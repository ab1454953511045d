"""Our encoders are open_clip's and timm's own numbers, at toy size and at full size, with the same weights."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.transforms import InterpolationMode

import evalkit
from evalkit.encoders.clip import ARCHITECTURE, CLIP, load_clip
from evalkit.encoders.dino import DINO, load_dino
from evalkit.errors import UserError
from evalkit.io.image_reader import convert
from evalkit.weights.lookup import find
from tests.evalkit.conftest import picture

IMAGES = [picture(seed, size) for seed, size in enumerate([(80, 72), (64, 130), (200, 90)])]


def prepared(encoder, images):
    """Return pictures as a batch for an encoder."""
    return torch.stack([encoder.prepare(convert(image, "x")) for image in images])


def cosines(left: torch.Tensor, right: torch.Tensor) -> list[float]:
    """Return cosines by PyTorch."""
    return torch.nn.functional.cosine_similarity(left, right).tolist()


def test_pictures_and_texts_are_encoded_as_open_clip_does(clip_folder):
    ours = load_clip(find(CLIP, {"clip": clip_folder}), "cpu")
    net, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    texts = ["a photo of star", "red circle on blue background"]
    with torch.inference_mode():
        features = net.eval().encode_image(torch.stack([preprocess(image) for image in IMAGES]))
        text_features = net.encode_text(tokenizer(texts))
    assert np.allclose(ours.features(prepared(ours, IMAGES)), features.numpy(), atol=1e-6)
    assert np.allclose(ours.texts(texts), text_features.numpy(), atol=1e-6)


def test_long_texts_keep_their_end_token_and_are_counted(clip_folder):
    ours = load_clip(find(CLIP, {"clip": clip_folder}), "cpu")
    fits, longer = " ".join(["star"] * 10), " ".join(["star"] * 11)  # 12 tokens with start and end
    assert ours.truncated([fits, longer, "a", longer + " red"]) == (False, True, False, True)
    tokens = ours.tokenizer([fits, longer], context_length=ours.context_length)
    assert torch.equal(tokens[0], tokens[1])


def test_openai_tokens_are_counted_the_same_way():
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
    for count, cut in ((74, False), (75, False), (76, True)):
        text = " ".join(["cat"] * count)
        short, long = tokenizer([text], context_length=77), tokenizer([text], context_length=78)
        assert bool((short != long[:, :77]).any()) is cut
        assert int(short[0, min(count + 1, 76)]) == tokenizer.eot_token_id


def test_pictures_are_encoded_as_timm_does(dino_folder):
    ours = load_dino(find(DINO, {"dino": dino_folder}), "cpu")
    net = timm.create_model(f"local-dir:{dino_folder}", pretrained=True).eval()
    with torch.inference_mode():
        features = net(official_dino_input(73, 64, IMAGES))
    assert np.allclose(ours.features(prepared(ours, IMAGES)), features.numpy(), atol=1e-5)


def official_dino_input(size: int, crop: int, images) -> torch.Tensor:
    """Return pictures as DINO's own evaluation prepares them, by torchvision alone."""
    chain = transforms.Compose(
        [
            transforms.Resize(size, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return torch.stack([chain(image) for image in images])


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """Return local weight files of a random ViT-B/32 (as PyTorch saves) and ViT-S/16 (safetensors), and their nets."""
    folder = tmp_path_factory.mktemp("full")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.create_model(ARCHITECTURE).eval()
        dino = timm.create_model("vit_small_patch16_224", num_classes=0).eval()
    torch.save(clip.state_dict(), folder / "clip.pt")
    save_file(dino.state_dict(), folder / "dino.safetensors")
    yield {"clip": folder / "clip.pt", "dino": folder / "dino.safetensors"}, clip, dino
    shutil.rmtree(folder)  # 700 MB, which pytest would keep for three runs


def test_full_size_nets_on_real_images_give_the_libraries_own_scores(full_size, data):
    places, clip, dino = full_size
    paths = sorted((data / "official_merges/cat2_monster_toy/direct").glob("*.png"))[:2]
    shown = sorted((data / "dreambooth/cat2").glob("*.jpg"))[:2]
    prompt = "a cat beside a toy monster"
    rows = evalkit.score(paths, ["clip_t", "clip_i", "dino"], prompts=prompt, references=shown, weights=places)
    assert {row.signature.split("|")[1] for row in rows} == {"ViT-B-32-quickgelu", "vit_small_patch16_224"}
    assert {row.signature.split("|")[3] for row in rows} == {"pil-bicubic-224-center", "pil-bicubic-256-center-224"}

    images, references = (
        [Image.open(path).convert("RGB") for path in paths],
        [Image.open(path).convert("RGB") for path in shown],
    )
    preprocess = open_clip.image_transform(224, is_train=False)
    with torch.inference_mode():
        own = clip.encode_image(torch.stack([preprocess(image) for image in images]))
        others = clip.encode_image(torch.stack([preprocess(image) for image in references]))
        text = clip.encode_text(open_clip.get_tokenizer(ARCHITECTURE)([prompt]))
        dino_own = dino(official_dino_input(256, 224, images))
        dino_others = dino(official_dino_input(256, 224, references))
    for number in range(2):
        got = {row.metric: row.value for row in rows if row.image == str(paths[number])}
        assert got["clip_t"] == pytest.approx(cosines(own[number : number + 1], text)[0], abs=1e-5)
        assert got["clip_i"] == pytest.approx(np.mean(cosines(own[number : number + 1], others)), abs=1e-5)
        assert got["dino"] == pytest.approx(np.mean(cosines(dino_own[number : number + 1], dino_others)), abs=1e-5)


def test_weights_of_another_size_are_not_stretched_to_fit(clip_folder, tmp_path):
    """open_clip itself would interpolate position embeddings of another picture size without a word."""
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 96
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="size mismatch for visual"):
        evalkit.score([picture(1)], ["clip_t"], prompts="a star", weights={"clip": folder})


def test_the_description_of_a_folder_counts_in_the_signature_its_place_does_not(clip_folder, tmp_path):
    def signature(folder):
        return evalkit.metric("clip_t").signature(load_clip(find(CLIP, {"clip": folder}), "cpu").recipe)

    moved = tmp_path / "elsewhere"
    shutil.copytree(clip_folder, moved)
    assert signature(moved) == signature(clip_folder)
    config = json.loads((moved / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0, 0, 0]
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    assert signature(moved) != signature(clip_folder)


def test_openais_own_archive_is_read(clip_folder, tmp_path):
    """OpenAI publishes TorchScript, with three settings among its tensors."""
    from evalkit.encoders.forward import read_state

    class Archive(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2, 2))
            self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))
            self.register_buffer("context_length", torch.tensor(77))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Return the input."""
            return x

    with pytest.warns(FutureWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(Archive()), tmp_path / "archive.pt")
    assert read_state(tmp_path / "archive.pt").keys() == {"weight", "logit_scale"}
