"""Metrics of pyiqa as pyiqa itself builds them, with the weights that it looks for in its own folder or downloads."""

import hashlib
import io
import os
import warnings
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Any

from evalkit.encoders.forward import building
from evalkit.encoders.quality import QualityNet, replaced
from evalkit.errors import MissingWeightsError, UserError, first_line
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# What pyiqa raises if a library that a metric needs is absent or too new, or if a file is not what it expects.
UNBUILDABLE = (ImportError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


def load_pyiqa(name: str, device: str) -> QualityNet:
    """Return pyiqa's no-reference metric of this name; the hash of its weights is that of all tensors the built net holds.

    Raises:
        MissingWeightsError: its weights are not in pyiqa's folder and can't be downloaded.
        UserError: it can't be built with the installed versions.
    """
    metric = _create(name, device)
    weights = Weights((), tensors_sha256(metric.net), "pyiqa")
    # one image at a time: not every metric of pyiqa takes several
    return QualityNet(f"pyiqa:{name}", lambda: _reporting(name, metric), weights, device, largest_batch=1, filled=True)


def tensors_sha256(net: "Module") -> str:
    """Return the sha256 of all tensors of a net by name, including plain attributes; empty if it has none."""
    import torch

    tensors: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for prefix, module in net.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}.{attribute}"] = value
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if tensors else ""


def _create(name: str, device: str) -> Any:  # noqa: ANN401 -- pyiqa ships no types
    """Return pyiqa's metric, built without a word and without touching the global generator."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), building(), ExitStack() as stack:
        # importing pyiqa's metrics leaves its files to be closed by the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            import pyiqa
            from huggingface_hub import constants
            from pyiqa.utils import download_util

            if constants.HF_HUB_OFFLINE:
                stack.enter_context(replaced(download_util, download_url_to_file=_refuse))
            return pyiqa.create_metric(name, device=device)
        except OSError as error:
            raise MissingWeightsError(f"iqa:{name}: pyiqa can't get its weights: {first_line(error)}") from error
        except UNBUILDABLE as error:
            raise UserError(
                f"iqa:{name}: pyiqa can't build it with what is installed: {first_line(error)}"
                "; choose another measure (`evalkit metrics`)"
            ) from error


def _refuse(url: str, target: str, **_: object) -> None:
    """Report which file would be downloaded to where."""
    folder, file = os.path.split(target)
    raise OSError(f"HF_HUB_OFFLINE is set, and {file} is not in {folder}; get it from {url}")


def _reporting(name: str, metric: "Module") -> "Module":
    """Return the metric as a net that reports in one line what it can't score."""
    import torch

    class Reporting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.metric = metric

        def forward(self, pictures: "Tensor") -> "Tensor":
            """Return n scores of n x 3 x H x W in [0, 1]."""
            try:
                scores: Tensor = self.metric(pictures)
                return scores.reshape(len(pictures))
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
                height, width = pictures.shape[-2:]
                raise UserError(
                    f"iqa:{name} can't score {width} x {height} pixels: {first_line(error)}"
                    "; score larger images, or choose another measure"
                ) from error

    return Reporting()
