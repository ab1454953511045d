"""The tiny CLIP as transformers' model, with the same weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_clip import CLIPImageProcessor

# What one tower's layers are called by open_clip and by transformers.
NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "transformer.resblocks": "encoder.layers",
}
WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "logit_scale": "logit_scale",
}
TOWERS = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
TOWERS |= {"ln_final": "text_model.final_layer_norm", "visual.": "vision_model.", "transformer.": "text_model.transformer."}
SIDE, CONTEXT = 64, 12


class Peer(CLIPModel):
    """transformers' CLIP; torchmetrics 1.9 expects plain features, which transformers 5 wraps."""

    def get_image_features(self, pixel_values):
        """Return picture features."""
        return self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output)

    def get_text_features(self, input_ids, attention_mask=None):
        """Return text features."""
        return self.text_projection(self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output)


def as_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return open_clip's tensors under transformers' names."""
    renamed = {"visual_projection.weight": state.pop("visual.proj").T, "text_projection.weight": state.pop("text_projection").T}
    for name, value in state.items():
        if name in WHOLE:
            renamed[WHOLE[name]] = value
            continue
        prefix = next(prefix for prefix in TOWERS if name.startswith(prefix))
        new = TOWERS[prefix] + name.removeprefix(prefix)
        for ours, theirs in NAMES.items():
            new = new.replace(ours, theirs)
        if ".attn.in_proj_" in new:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                renamed[new.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = piece
        else:
            renamed[new] = value
    return renamed


def load_peer(clip_folder: Path) -> tuple[Peer, CLIPProcessor]:
    """Return the tiny CLIP of a folder as transformers' model and processor."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(clip_folder)
    described = json.loads((clip_folder / "open_clip_config.json").read_text())
    towers = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "quick_gelu", "projection_dim": 32}
    config = CLIPConfig(
        text_config={
            **towers, "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 128,
            "max_position_embeddings": CONTEXT, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**towers, "hidden_size": 64, "intermediate_size": 256, "image_size": SIDE, "patch_size": 16},
        projection_dim=32,
    )  # fmt: skip
    with torch.random.fork_rng():
        model = Peer(config).eval()
    model.load_state_dict(as_transformers(load_file(clip_folder / "open_clip_model.safetensors")), strict=True)
    images = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=SIDE,
        image_mean=described["preprocess_cfg"]["mean"], image_std=described["preprocess_cfg"]["std"],
    )  # fmt: skip
    return model, CLIPProcessor(images, tokenizer)
