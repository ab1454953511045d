"""Names of layers that other programs find in a LoRA file, from their published key maps; see generation/lora/readers.py.

A map is a function from the name that a file gives a layer, without the tensor's suffix, to whether the program finds it.
"""

import re
from collections.abc import Callable

from generation.families import denoiser, family_of
from generation.lora.layer_names import original_names
from generation.pipeline import Pipeline

Finds = Callable[[str], bool]
TEXT = re.compile(r"lora_te[12]?_text_model_encoder_layers_\d+_(self_attn_[qkv]_proj|self_attn_out_proj|mlp_fc[12])$")
DOTTED_TEXT = re.compile(
    r"text_encoder(_2)?\.text_model\.encoder\.layers\.\d+\.(self_attn\.[qkv]_proj|self_attn\.out_proj|mlp\.fc[12])$"
)
UNET_PATTERNS = (
    r"lora_unet_(down|up)_blocks_\d+_attentions_\d+_.+", r"lora_unet_mid_block_attentions_\d+_.+",
    r"lora_unet_(down|up)_blocks_\d+_resnets_\d+_(conv[12]|time_emb_proj|conv_shortcut)", r"lora_unet_mid_block_resnets_\d+_.+",
)  # fmt: skip
# ComfyUI's names of layers in diffusers' spelling, family by family; a bare name follows the prefix `transformer.`.
BLOCK = {
    "sd3": r"attn2?\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.net\.(0\.proj|2)|norm1(_context)?\.linear",
    "flux": r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.net\.(0\.proj|2)|norm1(_context)?\.linear",
    "flux_single": r"attn\.to_[qkv]|proj_mlp|norm\.linear|proj_out|attn\.to_qkv_mlp_proj|attn\.to_out",
    "flux2": r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.linear_(in|out)",
    "z_image": r"attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123]|adaLN_modulation\.0",
    "pixart": r"attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)",
}
EMBEDDERS = r"time_text_embed\.(timestep|text|guidance)_embedder\.linear_[12]"
SINGLE = rf"single_transformer_blocks\.\d+\.({BLOCK['flux_single']})"
COMFY_DIFFUSERS = {
    "sd3": rf"transformer_blocks\.\d+\.({BLOCK['sd3']})|context_embedder|pos_embed\.proj|norm_out\.linear|proj_out|{EMBEDDERS}",
    "flux": rf"transformer_blocks\.\d+\.({BLOCK['flux']})|{SINGLE}|x_embedder|context_embedder|norm_out\.linear|proj_out|"
    + EMBEDDERS,
    "flux2": rf"transformer_blocks\.\d+\.({BLOCK['flux2']})|{SINGLE}|x_embedder|context_embedder|norm_out\.linear|proj_out",
    "z_image": rf"(layers|context_refiner|noise_refiner)\.\d+\.({BLOCK['z_image']})|all_final_layer\.2-1\..+|"
    r"all_x_embedder\.2-1|cap_embedder\.[01]|t_embedder\.mlp\.[02]",
    "pixart_sigma": rf"transformer_blocks\.\d+\.({BLOCK['pixart']})|adaln_single\..+|caption_projection\.linear_[12]|"
    "proj_out|pos_embed.proj",
    # these programs name the layers as diffusers does
    "qwen_image": ".+", "hidream": ".+",
}  # fmt: skip
COMFY_DIFFUSERS["flux2_klein"] = COMFY_DIFFUSERS["flux2"]
# Lumina 2 has the table of Z-Image
COMFY_DIFFUSERS["lumina2"] = COMFY_DIFFUSERS["z_image"]
FLUX_KOHYA = re.compile(
    r"lora_unet_(\w+_blocks)_(\d+)_(img_attn|img_mlp|img_mod|txt_attn|txt_mlp|txt_mod|linear1|linear2|modulation)_?(.*)"
)
QWEN_KOHYA = re.compile(
    r"lora_unet_transformer_blocks_\d+_(attn_(add_[qkv]_proj|to_add_out|to_out_0|to_[qkv])|(img|txt)_(mlp_net_(0_proj|2)|mod_1))$"
)


def underscored(pipeline: Pipeline, *, own: bool) -> set[str]:
    """Return `lora_unet_` names of the denoiser's layers in the names of the original checkpoint, and with `own` diffusers'."""
    model, family = denoiser(pipeline), family_of(pipeline)
    layers = [name for name, _ in model.named_modules()]
    if family.denoiser == "unet":
        names = {*original_names(model).values(), *(layers if own else ())}
    else:
        native = family.native_layers(model)
        renamed = {part for layer in native for part in layer.layers}
        names = {layer.name for layer in native} | {layer for layer in layers if layer not in renamed}
    return {f"lora_unet_{name.replace('.', '_')}" for name in names}


def comfyui(pipeline: Pipeline, file_format: str) -> Finds:
    """Return ComfyUI's rule, which Forge shares."""
    family = family_of(pipeline)
    if file_format == "kohya":
        names = underscored(pipeline, own=True)
        return lambda stem: stem in names or bool(TEXT.match(stem))
    if family.denoiser == "unet":
        # keys of diffusers' oldest form, in which attention projections are called processor.to_q
        return lambda stem: bool(DOTTED_TEXT.match(stem)) or (stem.startswith("unet.") and ".to_" not in stem)
    layer = re.compile(rf"transformer\.({COMFY_DIFFUSERS[family.name]})$")
    return lambda stem: bool(DOTTED_TEXT.match(stem) or layer.match(stem))


def a1111(pipeline: Pipeline, file_format: str) -> Finds:
    """Return A1111's rule: everything before the first dot names the layer."""
    names = underscored(pipeline, own=False)

    def finds(stem: str) -> bool:
        return stem in names or bool(TEXT.match(stem)) or any(re.match(one, stem) for one in UNET_PATTERNS)

    return finds if file_format == "kohya" else lambda stem: finds(stem.partition(".")[0])


def invokeai(pipeline: Pipeline, file_format: str) -> Finds:
    """Return InvokeAI's rule of the family."""
    family = family_of(pipeline).name
    if family == "flux":
        if file_format == "kohya":
            return lambda stem: bool(FLUX_KOHYA.match(stem) or TEXT.match(stem))
        layer = re.compile(rf"transformer\.({COMFY_DIFFUSERS['flux']})$")
        return lambda stem: bool(layer.match(stem)) and "norm_out" not in stem and "guidance" not in stem
    if family == "qwen_image":
        return lambda stem: bool(QWEN_KOHYA.match(stem)) if file_format == "kohya" else stem.startswith("transformer.")
    if family == "z_image":
        return lambda stem: stem.startswith("lora_unet__")
    names = underscored(pipeline, own=True)
    return lambda stem: stem in names or bool(TEXT.match(stem))


KEY_MAPS: dict[str, Callable[[Pipeline, str], Finds]] = {
    "ComfyUI": comfyui, "Forge": comfyui, "A1111": a1111, "InvokeAI": invokeai,
}  # fmt: skip
