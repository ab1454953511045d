"""Reward guidance (DCO): the merge's difference from the base model's prediction gets its own weight."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from generation.families import denoiser
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import instead
from generation.pipeline import Pipeline


@contextmanager
def reward_guided(
    pipeline: Pipeline,
    state: SamplingState,
    strength: float,
    prompts: Sequence[str],
    negative: Sequence[str] | None,
    *,
    guidance: float,
    clip_skip: int | None,
) -> Iterator[None]:
    """Let the denoiser predict e0(u) + w (e0(p) - e0(u)) + strength (e(c) - e0(p)) while a block generates images.

    Lee et al. 2024 (arXiv 2402.12004), as in the authors' reward_guidance.py: e0 is the base model (denoiser and text encoders)
    on the unguided text u and on `prompts` p without token embeddings; e is the merge on the case's prompt c; w is the guidance
    scale. The pipeline applies classifier-free guidance as usual, and both halves get the last term. The denoiser processes
    three rows per image and step instead of two.
    """
    with state.without_merge(), torch.no_grad():
        states, *pooled = _text(pipeline, prompts, negative, guidance=guidance, clip_skip=clip_skip)
    count = len(prompts)
    module = denoiser(pipeline)
    forward = module.forward

    def predict(sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **named: Any) -> tuple[Tensor]:  # noqa: ANN401
        added = named.pop("added_cond_kwargs", None)
        base_added, merge_added = added, added
        if pooled:
            base_added = {**added, "text_embeds": pooled[0]}
            merge_added = {key: value[-count:] for key, value in added.items()}
        with state.without_merge():
            base = forward(sample, timestep, encoder_hidden_states=states, added_cond_kwargs=base_added, **named)[0]
        text = encoder_hidden_states[-count:]
        merged = forward(sample[-count:], timestep, encoder_hidden_states=text, added_cond_kwargs=merge_added, **named)[0]
        difference = strength * (merged - base[-count:])
        return (base + difference.repeat(len(base) // count, 1, 1, 1),)

    with instead(module, predict):
        yield


def _text(
    pipeline: Pipeline, prompts: Sequence[str], negative: Sequence[str] | None, *, guidance: float, clip_skip: int | None
) -> list[Tensor]:
    """Return the encoders' outputs, unguided rows first if there is guidance: hidden states, and for SDXL the pooled text."""
    guided = guidance > 1
    encoded = pipeline.encode_prompt(
        prompt=list(prompts),
        device=denoiser(pipeline).device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=guided,
        negative_prompt=None if negative is None else list(negative),
        clip_skip=clip_skip,
    )
    pairs = zip(encoded[::2], encoded[1::2], strict=True)
    return [torch.cat([negative_text, text]) if guided else text for text, negative_text in pairs]
