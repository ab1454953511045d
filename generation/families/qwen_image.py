"""Qwen-Image: Qwen2.5-VL as text encoder, guidance in two calls with a rescaled norm."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from generation.families.family import Family, packed


class QwenImage(Family):
    """Qwen-Image (Wu et al. 2025). `guidance` is its `true_cfg_scale`, which needs negative prompts.

    The denoiser is called for the prompts, then for the negative prompts. Prompts are padded to the longest of a batch.
    """

    name = "qwen_image"
    pipelines = ("QwenImagePipeline",)
    guidance_calls = "sequential"
    pads_to_longest = True

    def latent_channels(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return a quarter of the transformer's input channels, which hold 2 x 2 elements."""
        return int(pipeline.transformer.config.in_channels) // 4

    def pack(self, pipeline: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
        """Return noise as tokens of 2 x 2 elements."""
        return packed(noise).to(self.dtype(pipeline))

    def scaled_latents(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return the VAE's latents [images, channels, 1, height, width] with each channel normalised."""
        config = pipeline.vae.config
        mean, deviation = (
            latents.new_tensor(value).view(1, -1, 1, 1, 1) for value in (config.latents_mean, config.latents_std)
        )
        return (latents - mean) / deviation

    def guided(self, guidance: float, true_cfg_scale: float, *, negative: bool) -> bool:
        """Return whether classifier-free guidance runs; without negative prompts it does not."""
        return guidance > 1 and negative

    def prompt_arguments(
        self,
        prompts: Sequence[str],
        negative: Sequence[str] | None,
        guidance: float,
        true_cfg_scale: float,
        clip_skip: int | None,
    ) -> dict[str, Any]:
        """Return the scale under diffusers' name; negative prompts only if they are used."""
        arguments: dict[str, Any] = {"prompt": list(prompts), "true_cfg_scale": guidance}
        if self.guided(guidance, true_cfg_scale, negative=negative is not None):
            arguments["negative_prompt"] = list(negative or ())
        return arguments

    def warnings(self, guidance: float, true_cfg_scale: float, clip_skip: int | None, *, negative: bool) -> list[str]:
        """Also report a guidance scale without negative prompts."""
        lines = super().warnings(guidance, true_cfg_scale, clip_skip, negative=negative)
        if guidance > 1 and not negative:
            lines.append("sampling.guidance has no effect without negative_prompt in qwen_image; set negative_prompt = ' '")
        return lines


QWEN_IMAGE = QwenImage()
