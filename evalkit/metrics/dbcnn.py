"""Image quality as people rate photos, by DBCNN trained on KonIQ-10k."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import HUB, LICENCE, QualityNet, replaced
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module


@metric(
    direction="higher",
    unit="opinion score, about 0 to 1",
    limits=(None, None),
    source="Zhang 2020, arXiv 1907.02665",
    weights=Source("dbcnn", HUB, ("DBCNN_KonIQ10k-2de81c0a.pth",), LICENCE),
)
def dbcnn(weights: Weights, device: str) -> Encoder:
    """Quality by the bilinear product of a VGG-16 and a net that knows synthetic distortions."""

    def build() -> "Module":
        from types import SimpleNamespace

        from pyiqa.archs import dbcnn_arch
        from torchvision.models import vgg16

        def bare(weights: str) -> object:
            return vgg16(weights=None)

        def keep_random(*_: object) -> None:
            """The checkpoint brings this part too."""

        models = SimpleNamespace(models=SimpleNamespace(vgg16=bare))
        with replaced(dbcnn_arch, torchvision=models, load_pretrained_network=keep_random):
            net: Module = dbcnn_arch.DBCNN(pretrained=False)
            return net

    return QualityNet("dbcnn-koniq10k", build, weights, device, largest_batch=4, smallest_side=64)
