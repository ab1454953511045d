"""Base models: lookup of a hub id or folder, and loading as a diffusers pipeline."""

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
from generation.families import family_of, find_family
from generation.families.family import SCHEDULER_ERRORS

# A pipeline of one of `generation.families`; diffusers ships no types.
Pipeline: TypeAlias = Any
Dtype = Literal["float32", "float16", "bfloat16"]


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Silence the libraries' hints and, unless `bars`, their progress bars while a block runs; errors are still shown."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    verbosity = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars_enabled = transformers_logging.is_progress_bar_enabled()
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
        diffusers_logging.set_verbosity(verbosity[0])
        transformers_logging.set_verbosity(verbosity[1])
        diffusers_logging.enable_progress_bar()
        if bars_enabled:
            transformers_logging.enable_progress_bar()


def find_model(model: str, revision: str | None = None) -> Path:
    """Return the folder of a base model: `model` itself if it is a folder, else the hub's files, downloaded once.

    Raises:
        UserError: the folder does not exist and the hub does not provide the model.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise UserError(f"{folder}: has no model_index.json; give a folder in diffusers format or a hub id")
        return folder
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise UserError(f"base model {model}: is neither a folder nor a hub id (owner/name); correct base.model")
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import HfHubHTTPError

    # a download of gigabytes shows its progress
    with quiet(bars=True):
        try:
            snapshot = Path(DiffusionPipeline.download(model, revision=revision, use_safetensors=True))
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UserError(
                f"base model {model}: is not a folder, and the hub did not provide it ({first_line(error)}); "
                "check the name and the network, or give the folder of a local copy"
            ) from error
    # if a download fails half-way, diffusers returns an incomplete folder
    index = json.loads((snapshot / "model_index.json").read_text(encoding="utf-8"))
    missing = [name for name, cls in index.items() if isinstance(cls, list) and cls[0] and not (snapshot / name).is_dir()]
    if missing:
        raise UserError(
            f"base model {model}: the download is incomplete, {', '.join(missing)} is missing; run the same command again"
        )
    return snapshot


def load_pipeline(
    folder: Path,
    dtype: Dtype = "float32",
    device: str | torch.device = "cpu",
    scheduler: str | None = None,
    scheduler_options: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Return the pipeline in `folder` on `device`, its scheduler replaced by the class named `scheduler`.

    Weights are read from safetensors only. The watermark and the safety checker are disabled, since both change pixels.

    Raises:
        UserError: the folder contains another kind of pipeline or broken files, or the scheduler does not fit.
    """
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    with quiet():
        try:
            config = DiffusionPipeline.load_config(folder)
            family = find_family(str(config.get("_class_name")), folder)
            disabled = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in config else {}
            pipeline = DiffusionPipeline.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True, **disabled)
        except UserError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise UserError(f"{folder}: is not a loadable pipeline ({first_line(error)}); download the model again") from error
        if scheduler is not None:
            pipeline.scheduler = _make_scheduler(scheduler_class(scheduler), pipeline.scheduler.config, scheduler_options or {})
        if hasattr(pipeline, "watermark"):
            pipeline.watermark = None
        family.prepare(pipeline)
        # decode one image at a time: less memory, and pixels that do not depend on the batch
        pipeline.vae.enable_slicing()
        pipeline.set_progress_bar_config(disable=True)
        pipeline = pipeline.to(device)
    for component in components(pipeline).values():
        component.requires_grad_(False).eval()
    return pipeline


def _make_scheduler(scheduler: Any, config: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - diffusers ships no types
    try:
        return scheduler.from_config(config, **options)
    except SCHEDULER_ERRORS as error:
        raise UserError(
            f"base.scheduler: {scheduler.__name__} does not fit the settings of this model's scheduler ({first_line(error)}); "
            "set base.scheduler_options, or give another scheduler"
        ) from error


def scheduler_class(name: str) -> Any:  # noqa: ANN401 - diffusers ships no types
    """Return the diffusers scheduler called `name`; raise a UserError with similar names if it does not exist."""
    import diffusers

    names = [known for known in dir(diffusers) if known.endswith("Scheduler")]
    if name not in names:
        raise unknown("diffusers has no scheduler", name, names)
    return getattr(diffusers, name)


def components(pipeline: Pipeline) -> dict[str, nn.Module]:
    """Return the components that a LoRA may adapt, by their name in the pipeline."""
    return family_of(pipeline).components(pipeline)
