"""Calibrated merges: each LoRA alone generates its concept, layers are observed, and the merge fits the observations."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.families import family_of, in_denoiser
from generation.lora.factors import Factors
from generation.merge.calibration import Moments
from generation.merge.on_weights import layer_inputs
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Change, Setup, WeightedLora, at_work, folded, layers_of, module_of
from generation.pipeline import Pipeline, quiet
from generation.seeds import derived, initial_noise, step_generator

# Bytes of moments in memory at once. SDXL's take 12 GB together, half of that for the widest feed-forward layers.
MOMENTS = 1 << 31


def changes(setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState) -> Mapping[str, Change]:
    """Return the method's result for each layer after observing it.

    Text encoders come first: each LoRA alone encodes its prompts. The denoiser is observed while each LoRA alone acts in it,
    with the merged text encoders, so that cross-attention sees the text it will see (Mix-of-Show). Initial noise comes from
    the arm's seed and is equal for all LoRAs. Images have the model's own size and no guidance.

    Raises:
        UserError: a concept has no words for its prompts.
    """
    active = at_work(loras)
    layers = layers_of(active)
    for weighted in active:
        in_words(setup, weighted)
    with torch.no_grad(), quiet():
        text = {layer: layer_loras for layer, layer_loras in layers.items() if not in_denoiser(layer)}
        made = (
            _watched(setup, pipeline, active, text, lambda prompts: family_of(pipeline).encode_unguided(pipeline, prompts))
            if text
            else {}
        )
        with folded(pipeline, made):
            rest = {layer: layer_loras for layer, layer_loras in layers.items() if in_denoiser(layer)}
            made |= (
                _watched(setup, pipeline, active, rest, lambda prompts: draw_alone(setup, pipeline, prompts)) if rest else {}
            )
    return dict(sorted(made.items()))


def _watched(
    setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], layers: Mapping[str, list[WeightedLora]], run: Any  # noqa: ANN401
) -> dict[str, Change]:  # fmt: skip
    """Run each LoRA alone in `layers` and return the method's results, one group of layers after the other.

    Sampling is deterministic, so a group observes what it would have observed if all layers had been observed at once.
    """
    own = {name: value for name, value in setup.settings.model_dump().items() if name not in ("prompts", "calibration_steps")}
    alone = [{layer: partial(one.part, layer) for layer in one.layers if layer in layers} for one in loras]
    made: dict[str, Change] = {}
    for group in _groups(setup, layers):
        moments = {layer: Moments(_downs(pipeline, layer, layers[layer]), hidden=_hidden(setup)) for layer in group}
        for weighted, acting_alone in zip(loras, alone, strict=True):
            with ExitStack() as stack:
                stack.enter_context(folded(pipeline, acting_alone))
                for layer in group:
                    acting = layers[layer].index(weighted) if weighted in layers[layer] else None
                    watch = partial(moments[layer].watch, acting=acting)
                    stack.callback(module_of(pipeline, layer).register_forward_pre_hook(watch).remove)
                run(in_words(setup, weighted))
        for layer in group:
            layer_loras, device = layers[layer], module_of(pipeline, layer).weight.device
            parts = [weighted.part(layer, device) for weighted in layer_loras]
            # free the moments, which are far larger than a pair of factors
            seen = moments.pop(layer)
            merged: Factors = setup.method.function(parts, layer_inputs(setup, loras, layer, layer_loras), seen, **own)
            made[layer] = partial(_ready, merged)
    return made


def _ready(merged: Factors, device: torch.device) -> Factors:
    return Factors(merged.down.to(device), merged.up.to(device))


def _hidden(setup: Setup) -> bool:
    return setup.method.needs == "hidden"


def _downs(pipeline: Pipeline, layer: str, layer_loras: Sequence[WeightedLora]) -> list[Tensor]:
    device = module_of(pipeline, layer).weight.device
    return [weighted.part(layer, device).down for weighted in layer_loras]


def _groups(setup: Setup, layers: Mapping[str, list[WeightedLora]]) -> Iterator[list[str]]:
    """Divide the layers into groups whose moments fit into `MOMENTS`; a larger layer forms its own group."""
    group: list[str] = []
    size = 0
    for layer, layer_loras in layers.items():
        ranks = sum(weighted.lora.rank(layer) for weighted in layer_loras)
        width = ranks if _hidden(setup) else layer_loras[0].lora.inputs(layer)
        needed = 4 * width * (width + ranks + len(layer_loras))
        if group and size + needed > MOMENTS:
            yield group
            group, size = [], 0
        group.append(layer)
        size += needed
    if group:
        yield group


def in_words(setup: Setup, weighted: WeightedLora) -> list[str]:
    """Return the calibration prompts in the words of a LoRA's concept; raise a UserError if it has none."""
    if not weighted.words:
        raise UserError(f"{weighted.lora.path.name}: its concept has no words to calibrate with; set words in [[concepts]]")
    return [prompt.replace("{}", weighted.words) for prompt in setup.settings.prompts]


def draw_alone(setup: Setup, pipeline: Pipeline, prompts: list[str]) -> Tensor:
    """Sample prompts at the model's own size without guidance, from noise of the arm's seed; return the final latents."""
    family = family_of(pipeline)
    width, height = family.native_size(pipeline)
    family.set_size(pipeline, width, height)
    seeds = [derived("calibration", setup.seed, number) for number in range(len(prompts))]
    noise = torch.stack([initial_noise(seed, family.noise_shape(pipeline, width, height)) for seed in seeds])
    latents: Tensor = pipeline(
        **family.unguided(prompts),
        num_inference_steps=setup.settings.calibration_steps,
        height=height,
        width=width,
        latents=family.pack(pipeline, noise),
        generator=[step_generator(seed) for seed in seeds],
        output_type="latent",
    ).images
    return latents
