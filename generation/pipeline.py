"""The base model: a hub id or a folder, loaded once as a Stable Diffusion 1.5 or XL pipeline."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from evalkit.errors import UserError, first_line, unknown

# StableDiffusionPipeline or StableDiffusionXLPipeline; diffusers ships no types.
Pipeline: TypeAlias = Any
Dtype = Literal["float32", "float16", "bfloat16"]
FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
# What diffusers' schedulers raise where they do not fit a model or a number of steps.
MISFITS = (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
# The parts of a pipeline that a LoRA may adapt, in the order they run.
ADAPTABLE = ("text_encoder", "text_encoder_2", "unet")


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep the libraries' hints and, without `bars`, progress bars away while a block runs; errors still come through."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    shown = transformers_logging.is_progress_bar_enabled()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity(logging.ERROR)
        if not bars:
            library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # diffusers' schedulers hand tensors to numpy in a way that numpy 2 deprecates
            warnings.filterwarnings("ignore", "__array_", DeprecationWarning)
            yield
    finally:
        diffusers_logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
        diffusers_logging.enable_progress_bar()
        if shown:
            transformers_logging.enable_progress_bar()


def find_model(model: str, revision: str | None = None) -> Path:
    """Return the folder of a base model: `model` itself where it is one, else the hub's files, fetched once.

    Raises:
        UserError: there is no such folder and the hub gives no such model.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise UserError(f"{folder}: no model_index.json there; give a folder in diffusers format or a hub id")
        return folder
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise UserError(f"base model {model}: no such folder, and no hub id (owner/name) either")
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import HfHubHTTPError

    # gigabytes may come: whoever waits wants to see how far they are
    with quiet(bars=True):
        try:
            place = Path(DiffusionPipeline.download(model, revision=revision, use_safetensors=True))
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UserError(
                f"base model {model}: no such folder, and the hub did not give it ({first_line(error)}); "
                "check the name and the network, or give the folder of a local copy"
            ) from error
    # where the hub fails half-way, diffusers gives what happens to be there
    parts = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
    lacking = [name for name, maker in parts.items() if isinstance(maker, list) and maker[0] and not (place / name).is_dir()]
    if lacking:
        raise UserError(f"base model {model}: the hub gave no {', '.join(lacking)}; run the same command again")
    return place


def load_pipeline(
    folder: Path,
    dtype: Dtype = "float32",
    device: str | torch.device = "cpu",
    scheduler: str | None = None,
    scheduler_options: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Return the pipeline in `folder` on `device`, its scheduler replaced by the class named `scheduler`.

    Weights are read from safetensors alone. The watermark and the safety checker are left out: both change pixels, the one by
    whether an optional package is installed.

    Raises:
        UserError: the folder holds another kind of pipeline, or broken files, or the scheduler is none.
    """
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    with quiet():
        try:
            config = DiffusionPipeline.load_config(folder)
            family = config.get("_class_name")
            if family not in FAMILIES:
                raise UserError(f"{folder}: holds a {family}; evalkit draws with {' and '.join(FAMILIES)}")
            left_out = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in config else {}
            pipeline = DiffusionPipeline.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True, **left_out)
        except UserError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise UserError(f"{folder}: can't be loaded as a pipeline: {first_line(error)}") from error
        if scheduler is not None:
            pipeline.scheduler = _made(scheduler_class(scheduler), pipeline.scheduler.config, scheduler_options or {})
        if hasattr(pipeline, "watermark"):
            pipeline.watermark = None
        # one image at a time: less memory, and pixels that do not depend on the batch
        pipeline.vae.enable_slicing()
        pipeline.set_progress_bar_config(disable=True)
        pipeline = pipeline.to(device)
    for component in components(pipeline).values():
        component.requires_grad_(False).eval()
    return pipeline


def _made(kind: Any, config: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - diffusers ships no types
    try:
        return kind.from_config(config, **options)
    except MISFITS as error:
        raise UserError(
            f"base.scheduler: {kind.__name__} can't be set up as this model's own is ({first_line(error)}); "
            "see base.scheduler_options, or give another such as KDPM2DiscreteScheduler"
        ) from error


def check_scheduler(scheduler: Any, steps: int) -> None:  # noqa: ANN401 - diffusers ships no types
    """Take the first of `steps` steps with a copy of a scheduler, on numbers of no meaning.

    Raises:
        UserError: it fails: it is made for other models, needs more steps, or a package that is not there.
    """
    rehearsed, sample = copy.deepcopy(scheduler), torch.zeros(1, 4, 8, 8)
    try:
        # some draw noise; no generator fits them all
        with quiet(), torch.random.fork_rng(devices=[]):
            rehearsed.set_timesteps(steps)
            when = rehearsed.timesteps[0]
            given = rehearsed.scale_model_input(sample * rehearsed.init_noise_sigma, when)
            rehearsed.step(sample, when, given)
            # how often it asks the denoiser per step
            int(rehearsed.order)
    except MISFITS as error:
        raise UserError(
            f"base.scheduler: {type(scheduler).__name__} can't draw with this model in {steps} steps ({first_line(error)}); "
            "give more steps, or another such as KDPM2DiscreteScheduler"
        ) from error


def scheduler_class(name: str) -> Any:  # noqa: ANN401 - diffusers ships no types
    """Return the diffusers scheduler called `name`; raise a UserError that lists them where there is none."""
    import diffusers

    names = [known for known in dir(diffusers) if known.endswith("Scheduler")]
    if name not in names:
        raise unknown("diffusers has no scheduler", name, names)
    return getattr(diffusers, name)


def components(pipeline: Pipeline) -> dict[str, nn.Module]:
    """Return the parts a LoRA may adapt, by their name in the pipeline."""
    return {name: part for name in ADAPTABLE if (part := getattr(pipeline, name, None)) is not None}
