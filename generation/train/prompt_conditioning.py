"""Prompts as the UNet takes them, with and without the LoRA in the text encoders."""

from typing import Any

import torch
from torch import Tensor

from generation.families import denoiser
from generation.pipeline import Pipeline


class PromptConditions:
    """Encodes prompts for Stable Diffusion 1.5 and XL; each once where the encoders stay as they are."""

    def __init__(self, pipeline: Pipeline, size: int, *, trained: bool) -> None:
        self.pipeline, self.trained = pipeline, trained
        self.known: dict[str, tuple[Tensor, ...]] = {}
        self.times: Tensor | None = None
        if getattr(pipeline, "text_encoder_2", None) is not None:
            width = pipeline.text_encoder_2.config.projection_dim
            self.times = pipeline._get_add_time_ids((size, size), (0, 0), (size, size), denoiser(pipeline).dtype, width)

    def __call__(self, prompts: list[str]) -> dict[str, Any]:
        """Return the UNet's keyword arguments for a batch of prompts, as the encoders are now."""
        return self._arguments(self._encode(prompts), len(prompts)) if self.trained else self.fixed(prompts)

    def fixed(self, prompts: list[str]) -> dict[str, Any]:
        """Return the same from encoders that do not change: each prompt is encoded the first time it is asked for."""
        with torch.no_grad():
            fresh = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.known]
            self.known |= {prompt: self._encode([prompt]) for prompt in fresh}
        parts = zip(*(self.known[prompt] for prompt in prompts), strict=True)
        return self._arguments(tuple(torch.cat(part) for part in parts), len(prompts))

    def _arguments(self, encoded: tuple[Tensor, ...], count: int) -> dict[str, Any]:
        if self.times is None:
            return {"encoder_hidden_states": encoded[0]}
        states, pooled = encoded
        times = self.times.to(states.device).repeat(count, 1)
        return {"encoder_hidden_states": states, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": times}}

    def _encode(self, prompts: list[str]) -> tuple[Tensor, ...]:
        encoded = self.pipeline.encode_prompt(
            prompts, device=denoiser(self.pipeline).device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return (encoded[0],) if self.times is None else (encoded[0], encoded[2])
