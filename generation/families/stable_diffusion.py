"""Stable Diffusion 1.5 and SDXL: a UNet that predicts noise, CLIP text encoders, guidance in one batch."""

from collections.abc import Mapping, Sequence
from functools import wraps
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar

from generation.families.family import Family

TWO_TOKENIZERS = MappingProxyType({"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"})


class StableDiffusion15(Family):
    """Stable Diffusion 1.5 (Rombach et al. 2022)."""

    name: ClassVar[str] = "sd15"
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)
    denoiser = "unet"
    adaptable_text: ClassVar[tuple[str, ...]] = ("text_encoder",)
    token_limits: ClassVar[Mapping[str, int | None]] = MappingProxyType({"tokenizer": None})
    flow_matching = False
    takes_clip_skip = True
    predicts_noise_with_clip = True
    blocks = ("down_blocks", "mid_block", "up_blocks")
    example_scheduler = "KDPM2DiscreteScheduler"

    def prepare(self, pipeline: Any) -> None:  # noqa: ANN401
        """Let diffusers find the final norm of a CLIP model of transformers 5, which clip_skip needs.

        The attribute is there only while a prompt is encoded: diffusers takes an encoder with it for one of an older
        transformers, and would then load no LoRA into it. It is not a module, so it gives no second name to the layers.
        """
        encode = pipeline.encode_prompt

        @wraps(encode)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            encoders = [getattr(pipeline, name, None) for name in self.tokenizers]
            flat = [encoder for encoder in encoders if encoder is not None and not hasattr(encoder, "text_model")]
            for encoder in flat:
                encoder.text_model = SimpleNamespace(final_layer_norm=encoder.final_layer_norm)
            try:
                return encode(*args, **kwargs)
            finally:
                for encoder in flat:
                    del encoder.text_model

        pipeline.encode_prompt = encode_prompt

    def size_multiple(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the factor of the VAE."""
        return int(pipeline.vae_scale_factor)

    def native_size(self, pipeline: Any) -> tuple[int, int]:  # noqa: ANN401
        """Return the UNet's sample size in pixels."""
        size = pipeline.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        factor = int(pipeline.vae_scale_factor)
        return width * factor, height * factor

    def latent_channels(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the input channels of the UNet."""
        return int(pipeline.unet.config.in_channels)

    def encode_unguided(self, pipeline: Any, prompts: Sequence[str]) -> None:  # noqa: ANN401
        """Run the text encoders on prompts once."""
        pipeline.encode_prompt(
            prompt=list(prompts), device=pipeline.unet.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )


class StableDiffusionXL(StableDiffusion15):
    """SDXL (Podell et al. 2023): two CLIP encoders, and the image's size as a condition."""

    name: ClassVar[str] = "sdxl"
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)
    tokenizers = TWO_TOKENIZERS
    adaptable_text = ("text_encoder", "text_encoder_2")
    token_limits = MappingProxyType({"tokenizer": None, "tokenizer_2": None})


SD15 = StableDiffusion15()
SDXL = StableDiffusionXL()
