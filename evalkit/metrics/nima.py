"""Aesthetics as photographers rate them, by NIMA trained on AVA."""

from typing import TYPE_CHECKING

from evalkit.encoders.quality import HUB, LICENCE, QualityNet, replaced
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.metric_spec.signature import stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module


@metric(
    direction="higher",
    unit="opinion score",
    limits=(1.0, 10.0),
    source="Talebi 2018, arXiv 1709.05424",
    weights=Source("nima", HUB, ("NIMA_InceptionV2_ava-b0c77c00.pth",), LICENCE),
)
def nima(weights: Weights, device: str) -> Encoder:
    """Mean of the distribution of aesthetic ratings that an Inception-ResNet-v2 expects, 1 to 10."""

    def build() -> "Module":
        from types import SimpleNamespace

        import timm
        from pyiqa.archs import nima_arch

        def bare(name: str, *, pretrained: bool, features_only: bool) -> object:
            return timm.create_model(name, pretrained=False, features_only=features_only)

        with replaced(nima_arch, timm=SimpleNamespace(create_model=bare)):
            net: Module = nima_arch.NIMA(base_model_name="inception_resnet_v2", num_classes=10, pretrained=False)
            return net

    # torchvision resizes inside, and its way of doing so has changed between versions (pytorch/vision#7093)
    libraries = (stamp("timm"), stamp("torchvision"))
    return QualityNet("nima-inception_resnet_v2-ava", build, weights, device, largest_batch=16, libraries=libraries)
