"""DINO is the published ViT-S/16: transformers' own, with the same weights, and the names of its tensors lead back."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from evalkit.encoders.dino import DINO, load_dino
from evalkit.io.image_reader import Pixels
from evalkit.weights.lookup import find
from tests.evalkit.conftest import picture

WIDTH, DEPTH = 384, 12
# facebookresearch's name, which timm's file has too, and transformers'
OF_A_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
ELSEWHERE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}


def renamed() -> dict[str, str]:
    """Return transformers' name of every tensor but those of queries, keys and values, by its published one."""
    kinds = ("weight", "bias")
    blocks = {
        f"blocks.{block}.{own}.{kind}": f"layers.{block}.{theirs}.{kind}"
        for block in range(DEPTH)
        for own, theirs in OF_A_BLOCK.items()
        for kind in kinds
    }
    return {**ELSEWHERE, **blocks}


def to_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return published tensors under transformers' names."""
    found = {theirs: state[own] for own, theirs in renamed().items()}
    for block in range(DEPTH):
        for kind in ("weight", "bias"):
            for part, piece in zip("qkv", state[f"blocks.{block}.attn.qkv.{kind}"].split(WIDTH), strict=True):
                found[f"layers.{block}.attention.{part}_proj.{kind}"] = piece
    return found


def to_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return transformers' tensors under the published names."""
    found = {own: state[theirs] for own, theirs in renamed().items()}
    for block in range(DEPTH):
        for kind in ("weight", "bias"):
            parts = [state[f"layers.{block}.attention.{part}_proj.{kind}"] for part in "qkv"]
            found[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory):
    """Return a file of random weights as published, and transformers' net with the same."""
    from transformers import ViTConfig, ViTModel

    draw = torch.Generator().manual_seed(0)
    state = timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0).state_dict()
    state = {name: value + 0.05 * torch.randn(value.shape, generator=draw) for name, value in state.items()}
    path = tmp_path_factory.mktemp("dino") / "dino.safetensors"
    save_file(state, path)
    config = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=6, intermediate_size=4 * WIDTH, layer_norm_eps=1e-6
    )
    with torch.random.fork_rng():
        net = ViTModel(config, add_pooling_layer=False).eval()
    net.load_state_dict(to_transformers(state), strict=True)
    return path, net


def test_dino_is_transformers_vit_with_the_same_weights(weights):
    path, net = weights
    encoder = load_dino(find(DINO, {"dino": path}), "cpu")
    batch = torch.stack([encoder.prepare(Pixels(picture(seed, (256, 260)))) for seed in range(2)])
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        theirs = net((batch.float() / 255 - mean) / std).last_hidden_state[:, 0].numpy()
    assert float(np.abs(theirs).mean()) > 0.1
    assert np.abs(encoder.features(batch) - theirs).max() < 1e-4


def test_the_tensors_go_to_transformers_and_back_whole(weights):
    path, net = weights
    here, back = load_file(path), to_published(dict(net.state_dict()))
    assert back.keys() == here.keys()
    assert all(torch.equal(back[name], here[name]) for name in here)
