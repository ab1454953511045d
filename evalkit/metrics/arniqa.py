"""Image quality by distance from distortion, by ARNIQA with its KonIQ-10k regressor."""

from pickle import UnpicklingError
from typing import TYPE_CHECKING

from evalkit.encoders.forward import load_torchscript, read_state
from evalkit.encoders.quality import HUB, LICENCE, QualityNet, replaced, unreadable
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch.nn import Module

ENCODER, REGRESSOR = "ARNIQA.pth", "regressor_koniq10k.pth"


@metric(
    direction="higher",
    unit="opinion score, about 0 to 1",
    limits=(None, None),
    source="Agnolucci 2024, arXiv 2310.14918",
    weights=Source("arniqa", HUB, (ENCODER, REGRESSOR), LICENCE),
)
def arniqa(weights: Weights, device: str) -> Encoder:
    """Quality by a ResNet-50 trained to tell distortions apart, at full and half size."""

    def build() -> "Module":
        import warnings
        from types import SimpleNamespace

        import torch

        with warnings.catch_warnings():
            # importing it leaves one of pyiqa's own files to be closed by the garbage collector
            warnings.simplefilter("ignore", ResourceWarning)
            from pyiqa.archs import arniqa_arch
        from torchvision.models import ResNet50_Weights, resnet50

        encoder, regressor = weights.files

        def bare(weights: object) -> object:
            return resnet50(weights=None)

        def local_state(*_: object, **__: object) -> object:
            return read_state(encoder)

        def local_file(*_: object, **__: object) -> str:
            return str(regressor)

        models = SimpleNamespace(models=SimpleNamespace(resnet50=bare, ResNet50_Weights=ResNet50_Weights))
        hub = SimpleNamespace(load_state_dict_from_url=local_state)
        torch_here = SimpleNamespace(hub=hub, jit=SimpleNamespace(load=load_torchscript), Tensor=torch.Tensor)
        try:
            with replaced(arniqa_arch, torchvision=models, torch=torch_here, load_file_from_url=local_file):
                net: Module = arniqa_arch.ARNIQA(regressor_dataset="koniq")
                return net
        except (RuntimeError, UnpicklingError, ValueError) as error:
            raise unreadable(weights, "ARNIQA's encoder and regressor", error) from error

    return QualityNet("arniqa-koniq10k", build, weights, device, largest_batch=4, smallest_side=64, filled=True)
