"""Image quality by the statistics of natural photos and people's opinions of distorted ones, by BRISQUE."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import HUB, LICENCE, QualityNet, replaced, unreadable
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module

# Statistics of an image at two sizes, 18 of each: the length of a support vector.
STATISTICS = 36


@metric(
    direction="lower",
    unit="opinion score, about 0 to 100",
    limits=(None, None),
    source="Mittal 2012, IEEE TIP 21(12)",
    weights=Source("brisque", HUB, ("brisque_svm_weights.pth",), LICENCE),
    on_request=True,
)
def brisque(weights: Weights, device: str) -> Encoder:
    """Quality by a support vector machine over the statistics of an image's luminance."""

    def build() -> "Module":
        from pickle import UnpicklingError
        from types import SimpleNamespace

        import torch
        from pyiqa.archs import brisque_arch

        def read(path: str, weights_only: bool) -> tuple[object, object]:
            coefficients, vectors = torch.load(path, map_location="cpu", weights_only=True)
            if vectors.shape != (len(coefficients), STATISTICS):
                raise ValueError(f"vectors of shape {tuple(vectors.shape)} for {len(coefficients)} coefficients")
            return coefficients, vectors

        try:
            with replaced(brisque_arch, torch=SimpleNamespace(load=read)):
                net: Module = brisque_arch.BRISQUE(pretrained_model_path=str(weights.file))
        except (UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, EOFError, OSError) as error:
            raise unreadable(weights, "BRISQUE's coefficients and support vectors", error) from error
        return net

    return QualityNet("brisque", build, weights, device, largest_batch=8, filled=True)
