"""DINOv2 is transformers' DINOv2, with the same weights at full size."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.transforms import InterpolationMode

import evalkit
from evalkit.encoders.dino import DINOV2, V2_ARCHITECTURE, load_dinov2
from evalkit.errors import UserError
from evalkit.io.image_reader import convert
from evalkit.weights.lookup import find
from tests.evalkit.conftest import picture

WIDTH = 384


def as_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return timm's tensors under transformers' names."""
    fixed = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "attn.proj": "attention.o_proj",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "blocks.": "encoder.layer.",
    }
    renamed = {}
    for name, value in state.items():
        new = "layernorm." + name.removeprefix("norm.") if name.startswith("norm.") else name
        for ours, theirs in fixed.items():
            new = new.replace(ours, theirs)
        if ".attn.qkv." in new:
            for part, piece in zip("qkv", value.split(WIDTH), strict=True):
                renamed[new.replace("attn.qkv", f"attention.{part}_proj")] = piece
        else:
            renamed[new] = value
    return renamed


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a file of random weights for 518 pixels, as published, and transformers' net with the same."""
    from transformers import Dinov2Config, Dinov2Model

    draw = torch.Generator().manual_seed(0)
    state = timm.create_model(V2_ARCHITECTURE, pretrained=False, num_classes=0).state_dict()
    state = {name: value + 0.05 * torch.randn(value.shape, generator=draw) for name, value in state.items()}
    path = tmp_path_factory.mktemp("dinov2") / "dinov2.safetensors"
    save_file(state, path)
    config = Dinov2Config(hidden_size=WIDTH, num_attention_heads=6, image_size=518, patch_size=14, use_mask_token=False)
    with torch.random.fork_rng():
        net = Dinov2Model(config).eval()
    net.load_state_dict(as_transformers(state), strict=True)
    return path, net


def test_its_features_are_those_of_transformers_at_224_pixels(weights):
    path, net = weights
    images = [picture(1, (300, 260)), picture(2, (230, 500))]
    ours = load_dinov2(find(DINOV2, {"dinov2": path}), "cpu")
    chain = transforms.Compose(
        [
            transforms.Resize(256, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    with torch.inference_mode():
        theirs = net(torch.stack([chain(image) for image in images])).last_hidden_state[:, 0].numpy()
    features = ours.features(torch.stack([ours.prepare(convert(image, "x")) for image in images]))
    assert np.abs(features - theirs).max() < 1e-4
    assert np.abs(features[0] - features[1]).max() > 0.01
    assert ours.recipe.model == "vit_small_patch14_dinov2"
    assert ours.recipe.preparation == "pil-bicubic-256-center-224"


def test_an_image_is_most_like_itself(weights):
    path, _ = weights
    image = picture(1, (240, 240))
    (same,) = evalkit.score([image], ["dinov2"], references=[image], weights={"dinov2": path})
    (other,) = evalkit.score([image], ["dinov2"], references=[Image.new("RGB", (240, 240))], weights={"dinov2": path})
    assert same.value == pytest.approx(1)
    assert other.value < same.value


def test_a_folder_can_describe_a_smaller_net(dino_folder):
    (row,) = evalkit.score([picture(1)], ["dinov2"], references=[picture(2)], weights={"dinov2": dino_folder})
    assert row.signature.split("|")[1].startswith("timm-dir:")


def test_weights_of_dino_are_refused(tmp_path):
    path = tmp_path / "dino.safetensors"
    save_file(timm.create_model("vit_small_patch16_224", num_classes=0).state_dict(), path)
    with pytest.raises(UserError, match=r"dino\.safetensors: is not timm's vit_small_patch14_dinov2"):
        evalkit.score([picture(1)], ["dinov2"], references=[picture(2)], weights={"dinov2": path})
