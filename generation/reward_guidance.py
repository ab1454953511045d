"""DCO's reward guidance: the base model draws what everyone knows, and what the merge adds to it is weighed by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from generation.merge.sampling_state import SamplingState
from generation.merge.setup import instead
from generation.pipeline import Pipeline


@contextmanager
def rewarded(
    pipeline: Pipeline,
    state: SamplingState,
    strength: float,
    prompts: Sequence[str],
    negative: Sequence[str] | None,
    *,
    guidance: float,
    clip_skip: int | None,
) -> Iterator[None]:
    """Let the denoiser guess e0(u) + w (e0(p) - e0(u)) + strength (e(c) - e0(p)) while a block draws one image per prompt.

    Lee et al. 2024 (arXiv 2402.12004), as in the authors' reward_guidance.py: e0 is the base model, UNet and text encoders, on
    the unguided text u and on `prompts` p without new words; e the merge on the case's own prompt c; w the guidance scale. The
    pipeline guides as ever: both halves it asks for get the last term. Three rows per image and step instead of two.
    """
    with state.without_merge(), torch.no_grad():
        states, *pooled = _text(pipeline, prompts, negative, guidance=guidance, clip_skip=clip_skip)
    count = len(prompts)
    forward = pipeline.unet.forward

    def guess(sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **named: Any) -> tuple[Tensor]:  # noqa: ANN401
        added = named.pop("added_cond_kwargs", None)
        known, own = added, added
        if pooled:
            known = {**added, "text_embeds": pooled[0]}
            own = {key: value[-count:] for key, value in added.items()}
        with state.without_merge():
            base = forward(sample, timestep, encoder_hidden_states=states, added_cond_kwargs=known, **named)[0]
        text = encoder_hidden_states[-count:]
        merged = forward(sample[-count:], timestep, encoder_hidden_states=text, added_cond_kwargs=own, **named)[0]
        more = strength * (merged - base[-count:])
        return (base + more.repeat(len(base) // count, 1, 1, 1),)

    with instead(pipeline.unet, guess):
        yield


def _text(
    pipeline: Pipeline, prompts: Sequence[str], negative: Sequence[str] | None, *, guidance: float, clip_skip: int | None
) -> list[Tensor]:
    """Return what the encoders make of prompts, unguided rows first if the pipeline guides: states, and on SDXL pooled text."""
    guided = guidance > 1
    found = pipeline.encode_prompt(
        prompt=list(prompts),
        device=pipeline.unet.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=guided,
        negative_prompt=None if negative is None else list(negative),
        clip_skip=clip_skip,
    )
    pairs = zip(found[::2], found[1::2], strict=True)
    return [torch.cat([without, text]) if guided else text for text, without in pairs]
