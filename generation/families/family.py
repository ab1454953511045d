"""Base-model family: the interface between generation and the architecture of a pipeline."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from evalkit.errors import UserError, first_line
from generation.families.native_names import NativeBlocks, NativeLayer, Renames, native_layers

# How guidance calls the denoiser in a step: one call with all rows of both halves ("batched"), one call per half
# ("sequential"), or one call in total, with the scale as an input or without guidance ("single").
GuidanceCalls = Literal["batched", "sequential", "single"]
# Exceptions of diffusers' schedulers that do not fit a model or a number of steps.
SCHEDULER_ERRORS = (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
UNGUIDED, GUIDED = 0, 1


class Family:
    """One architecture. A family is one file with a subclass, and one entry in `generation.families.FAMILIES`.

    The defaults are those of most diffusion transformers in diffusers: flow matching, latents of the VAE's size / 2 tokens.
    A pipeline is diffusers' own; diffusers ships no types, so it is `Any` here.
    """

    name: ClassVar[str]
    # class names of diffusers pipelines
    pipelines: ClassVar[tuple[str, ...]]
    denoiser: ClassVar[str] = "transformer"
    # text encoders with their tokenizers, in the order in which they run
    tokenizers: ClassVar[Mapping[str, str]] = MappingProxyType({"text_encoder": "tokenizer"})
    # the text encoders that LoRA files of this family may adapt
    adaptable_text: ClassVar[tuple[str, ...]] = ()
    guidance_calls: ClassVar[GuidanceCalls] = "batched"
    # whether the guided half comes first in the rows of a batched call; in sequential calls it always does
    guided_first: ClassVar[bool] = False
    flow_matching: ClassVar[bool] = True
    takes_negative_prompt: ClassVar[bool] = True
    takes_clip_skip: ClassVar[bool] = False
    # whether methods may optimise through the loss of noise prediction, guide by rewards, and add token embeddings
    predicts_noise_with_clip: ClassVar[bool] = False
    # whether a true CFG scale exists besides the guidance scale that is an input of the denoiser
    takes_true_cfg_scale: ClassVar[bool] = False
    # guidance is active above this scale
    guidance_threshold: ClassVar[float] = 1.0
    # whether prompts are padded to the longest of a batch, so that only prompts of one length can share a batch
    pads_to_longest: ClassVar[bool] = False
    # tokens that are read of a prompt, by tokenizer; None: as many as the tokenizer states
    token_limits: ClassVar[Mapping[str, int | None]] = MappingProxyType({"tokenizer": 512})
    # layers whose inputs have no row per image, by a part of their name: masks can't be assigned there
    rowless: ClassVar[tuple[str, ...]] = ()
    # ends of the names of the layers that a LoRA adapts by default in training
    default_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    # beginnings of the names of the denoiser's blocks
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)
    # layers of the original checkpoint: in numbered blocks, outside of blocks, and diffusers' layers with swapped halves
    native_blocks: ClassVar[tuple[NativeBlocks, ...]] = ()
    native_ends: ClassVar[Renames] = MappingProxyType({})
    native_swapped: ClassVar[frozenset[str]] = frozenset()
    example_scheduler: ClassVar[str] = "FlowMatchEulerDiscreteScheduler"
    # whether the pipeline passes its own sigmas, or a shift mu in every case, to the scheduler
    passes_sigmas: ClassVar[bool] = True
    passes_mu: ClassVar[bool] = False

    # --- components

    def components(self, pipeline: Any) -> dict[str, nn.Module]:  # noqa: ANN401
        """Return the components that a LoRA may adapt, in the order in which they run."""
        names = (*self.adaptable_text, self.denoiser)
        return {name: part for name in names if (part := getattr(pipeline, name, None)) is not None}

    def text_encoders(self, pipeline: Any) -> dict[str, nn.Module]:  # noqa: ANN401
        """Return all text encoders of a pipeline by name."""
        return {name: part for name in self.tokenizers if (part := getattr(pipeline, name, None)) is not None}

    def native_layers(self, model: Any) -> list[NativeLayer]:  # noqa: ANN401
        """Return the layers of the original checkpoint by the denoiser's layers that contain their rows."""
        return native_layers(model, self.native_blocks, self.native_ends, self.native_swapped)

    def prepare(self, pipeline: Any) -> None:  # noqa: ANN401
        """Change a loaded pipeline where diffusers does not work with it as it is."""

    # --- latents

    def set_size(self, pipeline: Any, width: int, height: int) -> None:  # noqa: ANN401
        """Prepare a pipeline for images of a size, if it would generate another size."""

    def size_multiple(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the number of pixels that width and height must be multiples of."""
        return 2 * int(pipeline.vae_scale_factor)

    def native_size(self, pipeline: Any) -> tuple[int, int]:  # noqa: ANN401
        """Return width and height in pixels at which the model was trained."""
        side = int(pipeline.default_sample_size) * int(pipeline.vae_scale_factor)
        return side, side

    def latent_channels(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the number of channels of the initial noise."""
        return int(pipeline.transformer.config.in_channels)

    def latent_factor(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the number of pixels per side of an element of the initial noise."""
        return int(pipeline.vae_scale_factor)

    def noise_shape(self, pipeline: Any, width: int, height: int) -> tuple[int, int, int]:  # noqa: ANN401
        """Return the shape of the initial noise of one image: channels, height, width."""
        factor = self.latent_factor(pipeline)
        return self.latent_channels(pipeline), height // factor, width // factor

    def pack(self, pipeline: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
        """Return initial noise [images, channels, height, width] in the form that the pipeline takes as `latents`."""
        return noise.to(self.dtype(pipeline))

    def dtype(self, pipeline: Any) -> torch.dtype:  # noqa: ANN401
        """Return the type of the denoiser's numbers."""
        dtype: torch.dtype = getattr(pipeline, self.denoiser).dtype
        return dtype

    def scaled_latents(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return the VAE's latents in the scale in which the denoiser works."""
        config = pipeline.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return (latents - shift) * float(config.scaling_factor)

    # --- prompts and guidance

    def guided(self, guidance: float, true_cfg_scale: float, *, negative: bool) -> bool:
        """Return whether the denoiser predicts an unguided half; `negative` says whether there are negative prompts."""
        return self.guidance_calls != "single" and guidance > self.guidance_threshold

    def prompt_arguments(
        self,
        prompts: Sequence[str],
        negative: Sequence[str] | None,
        guidance: float,
        true_cfg_scale: float,
        clip_skip: int | None,
    ) -> dict[str, Any]:
        """Return the pipeline's keyword arguments for prompts and guidance. Lists are copies, since pipelines change them."""
        arguments: dict[str, Any] = {"prompt": list(prompts), "guidance_scale": guidance}
        if self.takes_negative_prompt:
            arguments["negative_prompt"] = None if negative is None else list(negative)
        if self.takes_clip_skip:
            arguments["clip_skip"] = clip_skip
        return arguments

    def unguided(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Return the keyword arguments that generate prompts without classifier-free guidance."""
        return self.prompt_arguments(prompts, None, self.guidance_threshold, 1.0, None)

    def encode_unguided(self, pipeline: Any, prompts: Sequence[str]) -> None:  # noqa: ANN401
        """Run the text encoders on prompts once."""
        pipeline.encode_prompt(prompt=list(prompts), device=pipeline._execution_device, do_classifier_free_guidance=False)

    def warnings(self, guidance: float, true_cfg_scale: float, clip_skip: int | None, *, negative: bool) -> list[str]:
        """Return settings that have no effect with this family, one line each."""
        lines = []
        if negative and not self.takes_negative_prompt:
            lines.append(f"negative_prompt has no effect: {self.name} has no negative prompts; remove it from the cases")
        elif negative and not self.guided(guidance, true_cfg_scale, negative=True):
            option = "sampling.true_cfg_scale" if self.takes_true_cfg_scale else "sampling.guidance"
            threshold = 1.0 if self.takes_true_cfg_scale else self.guidance_threshold
            lines.append(f"negative_prompt has no effect at {option} <= {threshold:g}; raise it, or remove negative_prompt")
        if clip_skip is not None and not self.takes_clip_skip:
            lines.append(f"sampling.clip_skip has no effect with {self.name}; remove it")
        if true_cfg_scale != 1 and not self.takes_true_cfg_scale:
            lines.append(f"sampling.true_cfg_scale has no effect with {self.name}; remove it")
        return lines

    def halves(self, rows: int, images: int, position: int) -> tuple[int, ...]:
        """Return the guidance halves in the rows of a call of the denoiser: 0 unguided, 1 guided, each with a row per image.

        Parameters
        ----------
        rows
            Rows of the call.
        images
            Images in the batch.
        position
            Calls of the denoiser since the last step of the scheduler, from 0.

        Raises
        ------
        ValueError
            The number of rows does not fit the number of images.
        """
        if self.guidance_calls == "batched" and rows == 2 * images:
            return (GUIDED, UNGUIDED) if self.guided_first else (UNGUIDED, GUIDED)
        if rows != images:
            raise ValueError(f"{self.denoiser} was called with {rows} rows for a batch of {images} images")
        if self.guidance_calls == "sequential" and position > 0:
            return (UNGUIDED,)
        return (GUIDED,)

    # --- schedulers

    def check_scheduler(self, scheduler: Any, steps: int) -> None:  # noqa: ANN401
        """Try the first of `steps` steps with a copy of a scheduler, on zeros.

        Raises:
            UserError: the scheduler is made for another kind of model, or requires more steps or a missing package.
        """
        name = type(scheduler).__name__
        if self.flow_matching and not is_flow_scheduler(scheduler):
            raise UserError(
                f"base.scheduler: {name} does not predict flows, as {self.name} does; give {self.example_scheduler}, or set "
                "base.scheduler_options = { prediction_type = 'flow_prediction', use_flow_sigmas = true } for a scheduler that "
                "has them"
            )
        trial, sample = copy.deepcopy(scheduler), torch.zeros(1, 4, 8, 8)
        try:
            # some add noise; no generator fits them all
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                # diffusers' schedulers pass tensors to numpy in a way that numpy 2 deprecates
                warnings.filterwarnings("ignore", "__array_", DeprecationWarning)
                self.try_step(trial, sample, steps)
                # calls of the denoiser per step
                int(trial.order)
        except SCHEDULER_ERRORS as error:
            raise UserError(
                f"base.scheduler: {name} does not work with this model in {steps} steps ({first_line(error)}); "
                f"give more steps, or another such as {self.example_scheduler}"
            ) from error

    def try_step(self, scheduler: Any, sample: Tensor, steps: int) -> None:  # noqa: ANN401
        """Set the timesteps of a scheduler and take one step as the pipeline does."""
        if not self.flow_matching:
            scheduler.set_timesteps(steps)
            timestep = scheduler.timesteps[0]
            scaled = scheduler.scale_model_input(sample * scheduler.init_noise_sigma, timestep)
            scheduler.step(sample, timestep, scaled)
            return
        arguments: dict[str, Any] = {"num_inference_steps": steps}
        if self.passes_sigmas and not getattr(scheduler.config, "use_flow_sigmas", False):
            arguments = {"sigmas": [1 - step / steps for step in range(steps)]}
        if self.passes_mu or getattr(scheduler.config, "use_dynamic_shifting", False):
            arguments["mu"] = 0.5
        scheduler.set_timesteps(**arguments)
        scheduler.step(sample, scheduler.timesteps[0], sample)


def is_flow_scheduler(scheduler: Any) -> bool:  # noqa: ANN401
    """Return whether a scheduler integrates flows: a FlowMatch class, or another one with flow prediction and flow sigmas."""
    config = scheduler.config
    return type(scheduler).__name__.startswith("FlowMatch") or (
        getattr(config, "prediction_type", None) == "flow_prediction" and bool(getattr(config, "use_flow_sigmas", False))
    )


def packed(noise: Tensor) -> Tensor:
    """Return latents [images, channels, height, width] as tokens of 2 x 2 elements, [images, tokens, 4 * channels]."""
    images, channels, height, width = noise.shape
    patches = noise.view(images, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(images, (height // 2) * (width // 2), channels * 4)
