"""Image quality without opinions: distance from the statistics of natural photos, by NIQE."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import HUB, LICENCE, QualityNet, unreadable
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module


@metric(
    direction="lower",
    unit="distance, about 0 to 100",
    limits=(0.0, None),
    source="Mittal 2013, IEEE Signal Processing Letters 20(3)",
    weights=Source("niqe", HUB, ("niqe_modelparameters.mat",), LICENCE),
    on_request=True,
)
def niqe(weights: Weights, device: str) -> Encoder:
    """How far the statistics of an image's blocks are from those of natural photos."""

    def build() -> "Module":
        from pyiqa.archs.niqe_arch import NIQE
        from scipy.io.matlab import MatReadError

        try:
            net: Module = NIQE(pretrained_model_path=str(weights.file))
        except (KeyError, ValueError, TypeError, OSError, NotImplementedError, MatReadError) as error:
            raise unreadable(weights, "NIQE's parameters (mu_prisparam and cov_prisparam in a .mat file)", error) from error
        return net

    # the statistics are of blocks of 96 x 96 pixels
    return QualityNet("niqe", build, weights, device, largest_batch=8, smallest_side=96, filled=True)
