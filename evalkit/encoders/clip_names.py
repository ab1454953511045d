"""CLIP's tensors under transformers' names, turned into open_clip's."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
IN_A_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
BLOCKS = {"text": "transformer.resblocks", "vision": "visual.transformer.resblocks"}
ELSEWHERE = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    # transformers' own spelling
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
# open_clip multiplies with these from the right
TURNED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
COUNTERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def in_open_clips_names(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return a CLIP's tensors under open_clip's names; those that already have them, or are of another net, as they are."""
    import torch

    if not any(name.startswith("text_model.") for name in state):
        return state
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        layer = LAYER.fullmatch(name)
        if name in COUNTERS:
            continue
        if name in TURNED:
            renamed[TURNED[name]] = value.T
        elif layer and layer[3] in IN_A_LAYER:
            renamed[f"{BLOCKS[layer[1]]}.{layer[2]}.{IN_A_LAYER[layer[3]]}.{layer[4]}"] = value
        elif layer and layer[3] == "self_attn.q_proj":
            parts = [state.get(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            whole = [part for part in parts if part is not None]
            renamed[f"{BLOCKS[layer[1]]}.{layer[2]}.attn.in_proj_{layer[4]}"] = torch.cat(whole)
        elif not (layer and layer[3] in ("self_attn.k_proj", "self_attn.v_proj")):
            renamed[ELSEWHERE.get(name, name)] = value
    return renamed
