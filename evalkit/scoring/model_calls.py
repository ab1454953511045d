"""Calls of a metric's model: in the fixed PyTorch state, with one line for everything that a model raises."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from evalkit.encoders.concept_crops import ConceptCrops
from evalkit.encoders.torch_state import exact, fixed_state
from evalkit.errors import UserError, first_line
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.metric_card import Encoder, JointEncoder, Model, PairEncoder
from evalkit.plural import plural
from evalkit.scoring.joint_keys import Texts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Result = TypeVar("Result")


def build_net(name: str, model: Model) -> None:
    """Load the weights of a model that loads them late, so that a wrong file ends the job once and not image by image.

    Raises:
        UserError: the model can't be built.
    """
    with fixed_state():
        _in_one_line(name, lambda: getattr(model, "net", None))


def prepare(name: str, model: Model, pixels: Pixels) -> "Tensor":
    """Return an image as the model's input; raise a UserError if the model refuses it or fails."""
    with fixed_state():
        return _in_one_line(name, lambda: model.prepare(pixels))


def encode(name: str, encoder: Encoder, batch: "list[Tensor]") -> "NDArray[np.float32]":
    """Return the features of prepared images of one size, n x d.

    Raises:
        UserError: the model fails, or does not return one row of numbers for each image.
    """
    import torch

    with exact():
        features = _in_one_line(name, lambda: np.asarray(encoder.features(torch.stack(batch)), dtype=np.float32))
    if features.ndim != 2 or len(features) != len(batch) or not features.shape[1]:
        shape = " x ".join(map(str, features.shape)) or "a single number"
        raise UserError(f"{name}: returns features of shape {shape} for {plural(len(batch), 'image')}; return n x d")
    return features


def compare(name: str, encoder: PairEncoder, left: "Tensor", right: "Tensor") -> float:
    """Return the score of two prepared images; raise a UserError if the model fails."""
    with exact():
        return _in_one_line(name, lambda: float(encoder.compare(left, right)))


def judge(name: str, encoder: JointEncoder | ConceptCrops, image: "Tensor", texts: Texts) -> "NDArray[np.float32]":
    """Return what a model says of a prepared image with a text: one number, or the packed detections of several phrases.

    Raises:
        UserError: the model fails, or returns no finite numbers.
    """
    with exact():
        if isinstance(encoder, ConceptCrops):
            vector = _in_one_line(name, lambda: encoder.detect(image, texts))
        else:
            vector = _in_one_line(name, lambda: np.array([float(encoder.judge(image, texts[0]))], dtype=np.float32))
    if not np.isfinite(vector).all():
        raise UserError(f"{name} gives no finite number for it and its text; mend the metric, or exclude the image")
    return vector


def _in_one_line(name: str, call: Callable[[], Result]) -> Result:
    try:
        return call()
    except UserError:
        raise
    except Exception as error:
        # any exception of a net, or of a metric that a user wrote
        raise UserError(
            f"{name} fails: {type(error).__name__}: {first_line(error)}; mend the metric, or leave it out"
        ) from error
