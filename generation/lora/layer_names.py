"""Names of layers in LoRA files: spellings of diffusers, peft, kohya, LyCORIS and original checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from generation.families.native_names import NativeLayer

# Prefixes of the denoiser's layers after "." is replaced by "_".
DENOISER_PREFIXES = ("lora_unet_", "lycoris_", "diffusion_model_", "model_diffusion_model_")
# Further prefixes of a denoiser by its name in the pipeline.
OWN_PREFIXES = {"unet": ("unet_",), "transformer": ("lora_transformer_", "transformer_")}
# Prefixes of text encoders by component; kohya's lora_te_ is the only encoder of Stable Diffusion 1.5.
TEXT_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "text_encoder": ("lora_te_", "lora_te1_", "te1_", "text_encoder_", "text_encoders_clip_l_transformer_"),
    "text_encoder_2": ("lora_te2_", "te2_", "text_encoder_2_", "text_encoders_clip_g_transformer_"),
    "text_encoder_3": ("lora_te3_", "te3_", "text_encoder_3_", "text_encoders_t5xxl_transformer_"),
}
# Prefixes that peft's wrappers add.
WRAPPERS = ("base_model_model_", "base_model_", "model_")
# Old names of attention projections in text encoders.
OLD_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj", "to_out_0": "out_proj"}
# Original Stable Diffusion names inside a residual block.
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


class LayerNames:
    """Finds the layer of a pipeline that a name in a LoRA file denotes."""

    def __init__(self, parts: Mapping[str, nn.Module], native: Sequence[NativeLayer] = ()) -> None:
        self.parts = parts
        self.denoiser = next(name for name in parts if not name.startswith("text_encoder"))
        # by component: name with underscores -> name in the model
        self.known = {name: dict(_spellings(name, part)) for name, part in parts.items()}
        # original layers of the denoiser that are more than another name of one layer, by name with underscores
        self.fused: dict[str, NativeLayer] = {}
        for layer in native:
            spelled = layer.name.replace(".", "_")
            if layer.fused:
                self.fused[spelled] = layer
            else:
                self.known[self.denoiser].setdefault(spelled, layer.layers[0])

    def find(self, stem: str) -> list[NativeLayer]:
        """Return what a name may denote: one entry if it is clear, none if the model has no such layer.

        Layers in an entry are named with their component.
        """
        spelled = stem.replace(".processor.", ".").replace(".", "_")
        matches: list[NativeLayer] = []
        for component, name in self._readings(spelled):
            layer = self.known.get(component, {}).get(name)
            match = NativeLayer(name, (layer,)) if layer is not None else self.fused.get(name)
            if match is None or (layer is None and component != self.denoiser):
                continue
            layers = tuple(f"{component}.{one}" for one in match.layers)
            if layers not in [one.layers for one in matches]:
                matches.append(NativeLayer(match.name, layers, match.swapped))
        return matches

    def component_of(self, stem: str) -> str | None:
        """Return the component that a name's prefix states, such as "text_encoder_2"; None if it states none."""
        spelled = stem.replace(".", "_")
        for component, prefixes in sorted(TEXT_PREFIXES.items(), reverse=True):
            if spelled.startswith(prefixes):
                return component
        own = next((name for name, prefixes in OWN_PREFIXES.items() if spelled.startswith(prefixes)), None)
        return own or (self.denoiser if spelled.startswith(DENOISER_PREFIXES) else None)

    def _readings(self, spelled: str) -> Iterator[tuple[str, str]]:
        """Yield component and name of every way to read a name."""
        for bare in _unwrapped(spelled):
            for component in self.parts:
                if component == self.denoiser:
                    prefixes: tuple[str, ...] = DENOISER_PREFIXES + OWN_PREFIXES.get(component, ())
                else:
                    prefixes = TEXT_PREFIXES[component]
                for prefix in prefixes:
                    if bare.startswith(prefix):
                        yield component, _text_name(bare[len(prefix) :]) if component != self.denoiser else bare[len(prefix) :]
                if component == self.denoiser:
                    yield component, bare
                elif bare.startswith("text_model_"):
                    yield component, _text_name(bare)


def _unwrapped(spelled: str) -> Iterator[str]:
    yield spelled
    for wrapper in WRAPPERS:
        if spelled.startswith(wrapper):
            yield from _unwrapped(spelled[len(wrapper) :])


def _text_name(name: str) -> str:
    """Return a text encoder's layer name without the prefix that only some files and some versions of transformers have."""
    name = name.removeprefix("text_model_")
    stem, _, last = name.rpartition("_self_attn_")
    return f"{stem}_self_attn_{OLD_TEXT_NAMES.get(last, last)}" if stem else name


def _spellings(component: str, part: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield every spelling, with underscores, of the component's layers that have a weight."""
    original = original_names(part) if not component.startswith("text_encoder") else {}
    for name, module in part.named_modules():
        if not name or getattr(module, "weight", None) is None:
            continue
        flat = name.replace(".", "_")
        yield (flat if not component.startswith("text_encoder") else _text_name(flat)), name
        if name.endswith(".to_out.0"):
            # the oldest files have no .0
            yield flat.removesuffix("_0"), name
        if name in original:
            yield original[name].replace(".", "_"), name


def original_names(unet: Any) -> dict[str, str]:  # noqa: ANN401 - diffusers ships no types
    """Return the layers of a diffusers UNet by the names of original Stable Diffusion checkpoints; empty for other models."""
    if not (hasattr(unet, "down_blocks") and hasattr(unet, "up_blocks") and hasattr(unet, "mid_block")):
        return {}
    names = dict(ENDS)
    for modules, start in ((unet.down_blocks, "down_blocks"), (unet.up_blocks, "up_blocks")):
        number = 1 if start == "down_blocks" else 0
        original = "input_blocks" if start == "down_blocks" else "output_blocks"
        for index, block in enumerate(modules):
            attentions = len(getattr(block, "attentions", None) or ())
            for layer in range(len(block.resnets)):
                names |= {
                    f"{start}.{index}.resnets.{layer}.{mine}": f"{original}.{number}.0.{theirs}"
                    for mine, theirs in RESNET.items()
                }
                names[f"{start}.{index}.attentions.{layer}"] = f"{original}.{number}.1"
                number += 1
            if getattr(block, "downsamplers", None):
                names[f"{start}.{index}.downsamplers.0.conv"] = f"{original}.{number}.0.op"
                number += 1
            if getattr(block, "upsamplers", None):
                names[f"{start}.{index}.upsamplers.0.conv"] = f"{original}.{number - 1}.{2 if attentions else 1}.conv"
    names["mid_block.attentions.0"] = "middle_block.1"
    for index, middle_index in ((0, 0), (1, 2)):
        names |= {
            f"mid_block.resnets.{index}.{mine}": f"middle_block.{middle_index}.{theirs}" for mine, theirs in RESNET.items()
        }
    whole = {}
    for name, _ in unet.named_modules():
        for length in range(name.count(".") + 1, 0, -1):
            head = ".".join(name.split(".")[:length])
            if head in names:
                whole[name] = names[head] + name[len(head) :]
                break
    return whole
