"""Random weights of the quality nets, in the files that published ones come in."""

import warnings
from pathlib import Path

import numpy as np
import scipy.io
import torch

from evalkit.encoders.lpips import BACKBONE, CHANNELS
from evalkit.metrics import METRICS
from evalkit.weights.lookup import NO_WEIGHTS

LPIPS_SIZES = (64, 192, 384, 256, 256)


def save_random(name: str, folder: Path) -> Path:
    """Save one of the nets with random weights the way its published checkpoint is saved."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = METRICS[name].load(NO_WEIGHTS, "cpu")._build()
    state = net.state_dict()
    path = folder / f"{name}.pth"
    torch.save({"params": state} if name in ("nima", "dbcnn") else state, path)
    return path


class Regressor(torch.nn.Module):
    """Stands for ARNIQA's regressor, which is published as TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4096, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return one score per row."""
        return self.linear(features)


def save_arniqa(folder: Path) -> Path:
    """Save a random encoder and regressor of ARNIQA."""
    from torchvision.models import resnet50

    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = torch.nn.Sequential(*list(resnet50(weights=None).children())[:-1])
        torch.save({f"model.{name}": value for name, value in encoder.state_dict().items()}, folder / "ARNIQA.pth")
        regressor = Regressor()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)
        torch.jit.save(torch.jit.script(regressor), folder / "regressor_koniq10k.pth")
    return folder


def save_lpips(folder: Path) -> Path:
    """Save a random LPIPS on AlexNet in its two files."""
    from torchvision.models import alexnet

    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(alexnet(weights=None).state_dict(), folder / BACKBONE.rpartition("/")[2])
    channels = {
        f"lin{layer}.model.1.weight": torch.rand(1, size, 1, 1, generator=draw) for layer, size in enumerate(LPIPS_SIZES)
    }
    torch.save(channels, folder / CHANNELS)
    return folder


def save_niqe(path: Path) -> Path:
    """Save random parameters in the format of NIQE's."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(36, 36))
    scipy.io.savemat(path, {"mu_prisparam": rng.normal(size=(1, 36)), "cov_prisparam": root @ root.T})
    return path


def save_brisque(path: Path) -> Path:
    """Save random support vectors in the format of BRISQUE's."""
    draw = torch.Generator().manual_seed(0)
    torch.save((torch.randn(20, generator=draw), torch.rand(20, 36, generator=draw)), path)
    return path
