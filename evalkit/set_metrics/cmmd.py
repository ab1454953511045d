"""CMMD: are two sets of images alike to CLIP? The kernel is torch-fidelity's."""

from typing import TYPE_CHECKING

from evalkit.encoders.clip import CLIP_L, load_clip_l
from evalkit.metric_spec.set_metric import Features, set_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGMA, SCALE = 10, 1000
# Rows of a kernel that are held at once.
STRIP = 1024


@set_metric(
    unit=f"{SCALE} x squared maximum mean discrepancy",
    source="Jayasumana 2024 (arXiv 2401.09603), section 4",
    weights=CLIP_L,
    load=load_clip_l,
    reduction=f"{SCALE}*mmd2-rbf{SIGMA}-biased",
    # The estimate keeps each image's likeness to itself: that adds at most 1000 (1 - exp(-4 / 200)) / n, under .02 a set here.
    least=1000,
    packages=("torch-fidelity",),
)
def cmmd(images: Features, others: Features) -> float:
    """Squared discrepancy of CLIP's features, normalised, under a Gaussian kernel of width 10, times 1,000."""
    import numpy as np

    one, other = (
        features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
        for features in (images, others)
    )
    return SCALE * (_likeness(one, one) + _likeness(other, other) - 2 * _likeness(one, other))


def _likeness(left: "NDArray[np.float64]", right: "NDArray[np.float64]") -> float:
    """Return the mean of the kernel over all pairs."""
    from torch_fidelity.metric_kid import kernel_rbf

    strips = (
        kernel_rbf(left[start : start + STRIP], right, kid_kernel_rbf_sigma=SIGMA).sum() for start in range(0, len(left), STRIP)
    )
    return float(sum(strips)) / (len(left) * len(right))
