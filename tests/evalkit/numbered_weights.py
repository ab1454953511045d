"""Weights and images whose every value follows from a name: equal on every machine and under every library version.

PyTorch's and NumPy's distributions may change between versions. The raw output of NumPy's PCG64 may not (NEP 19).
"""

import shutil
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evalkit.encoders.lpips import BACKBONE, CHANNELS
from evalkit.metrics import METRICS
from evalkit.weights.lookup import NO_WEIGHTS
from tests.evalkit.random_weights import LPIPS_SIZES, Regressor
from tests.evalkit.tiny_encoders import save_tiny_clip, save_tiny_dino

VAE_CONFIG = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 8],
    "norm_num_groups": 4,
    "latent_channels": 3,
    "scaling_factor": 2.5,
}
# pyiqa's nets, each published as one checkpoint
CHECKPOINTS = ("musiq", "nima", "dbcnn", "tres")


def uniform(name: str, count: int) -> np.ndarray:
    """Return `count` float64 numbers in [0, 1) that follow from the name alone."""
    return (np.random.PCG64(zlib.crc32(name.encode())).random_raw(count) >> np.uint64(11)) * 2.0**-53


def numbered(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a net's tensors with numbered values, scaled so that activations neither vanish nor explode."""
    return {
        name: _numbered(name, value) if value.is_floating_point() else torch.zeros(value.shape, dtype=value.dtype)
        for name, value in state.items()
    }


def _numbered(name: str, value: torch.Tensor) -> torch.Tensor:
    count = value.numel()
    words = np.random.PCG64(zlib.crc32(name.encode())).random_raw((count + 1) // 2).view(np.uint32)[:count]
    words >>= np.uint32(8)
    filled = torch.from_numpy(words.astype(np.float32)).reshape(value.shape).mul_(2.0**-24).sub_(0.5)
    if name.endswith("running_var") or (value.ndim <= 1 and name.endswith("weight")):
        filled.mul_(0.2).add_(1)
    elif value.ndim <= 1:
        filled.mul_(0.2)
    else:
        filled.mul_((24 / value[0].numel()) ** 0.5)  # variance 2 / fan in (He 2015)
    return filled.to(value.dtype)


def numbered_image(name: str, size: tuple[int, int] = (128, 112)) -> Image.Image:
    """Return a smooth image with some texture, in whole-number arithmetic."""
    width, height = size
    coarse = (uniform(f"{name} coarse", 8 * 8 * 3) * 256).astype(np.int64).reshape(8, 8, 3)
    y, x = np.arange(height) * 7 * 256 // height, np.arange(width) * 7 * 256 // width
    (row, down), (column, right) = (y // 256, (y % 256)[:, None, None]), (x // 256, (x % 256)[None, :, None])
    upper = coarse[row][:, column] * (256 - right) + coarse[row][:, column + 1] * right
    lower = coarse[row + 1][:, column] * (256 - right) + coarse[row + 1][:, column + 1] * right
    smooth = (upper * (256 - down) + lower * down) >> 16
    texture = (uniform(f"{name} texture", height * width * 3) * 25).astype(np.int64).reshape(height, width, 3) - 12
    return Image.fromarray(np.clip(smooth + texture, 0, 255).astype(np.uint8))


def save_every_model(root: Path) -> dict[str, Path]:
    """Save numbered weights of every model that a registered metric, preset or set metric uses; return their paths by name."""
    paths = {"clip": save_tiny_clip(root / "clip"), "dino": save_tiny_dino(root / "dino")}
    for folder, file in ((paths["clip"], "open_clip_model.safetensors"), (paths["dino"], "model.safetensors")):
        save_file(numbered(load_file(folder / file)), folder / file)
    for name, model in (("clip_l", "clip"), ("hpsv2", "clip"), ("pickscore", "clip"), ("dino_s8", "dino"), ("dinov2", "dino")):
        paths[name] = Path(shutil.copytree(paths[model], root / name))
    for name in CHECKPOINTS:
        paths[name] = root / f"{name}.pth"
        with torch.random.fork_rng():
            net = METRICS[name].load(NO_WEIGHTS, "cpu")._build()
        # what is neither learned nor a statistic, such as a pooling filter, stays
        constant = {name: value for name, value in net.named_buffers() if "running_" not in name}
        torch.save({**numbered(net.state_dict()), **constant}, paths[name])
    paths |= {"arniqa": _arniqa(root / "arniqa"), "lpips": _lpips(root / "lpips"), "niqe": root / "niqe.mat"}
    spread = uniform("niqe covariance", 36 * 36).reshape(36, 36) - 0.5
    mean = uniform("niqe mean", 36)[None]
    scipy.io.savemat(paths["niqe"], {"mu_prisparam": mean, "cov_prisparam": spread @ spread.T + np.eye(36)})
    paths["brisque"] = root / "brisque.pth"
    vectors = torch.from_numpy(uniform("brisque vectors", 20 * 36)).reshape(20, 36).float()
    torch.save((torch.from_numpy(uniform("brisque coefficients", 20) - 0.3).float(), vectors), paths["brisque"])
    paths["detector"] = root / "detector.json"
    paths["detector"].write_text('{"model_type": "flat_background", "dilation": 1}')
    paths |= {"inception": _inception(root / "inception.pth"), "vae": _vae(root / "vae")}
    return paths


def _arniqa(folder: Path) -> Path:
    from torchvision.models import resnet50

    folder.mkdir()
    with torch.device("meta"):
        encoder = torch.nn.Sequential(*list(resnet50(weights=None).children())[:-1])
    with torch.random.fork_rng():
        regressor = Regressor()
    state = {f"model.{name}": value for name, value in numbered(encoder.state_dict()).items()}
    torch.save(state, folder / "ARNIQA.pth")
    regressor.load_state_dict(numbered(regressor.state_dict()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)
        torch.jit.save(torch.jit.script(regressor), folder / "regressor_koniq10k.pth")
    return folder


def _lpips(folder: Path) -> Path:
    from torchvision.models import alexnet

    folder.mkdir()
    with torch.device("meta"):
        net = alexnet(weights=None)
    torch.save(numbered(net.state_dict()), folder / BACKBONE.rpartition("/")[2])
    channels = {
        f"lin{layer}.model.1.weight": torch.from_numpy(uniform(f"lpips {layer}", size)).float().reshape(1, size, 1, 1)
        for layer, size in enumerate(LPIPS_SIZES)
    }
    torch.save(channels, folder / CHANNELS)
    return folder


def _inception(path: Path) -> Path:
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: None)
        net = theirs.FeatureExtractorInceptionV3("numbered", ["2048"])
    torch.save(numbered(net.state_dict()), path)
    return path


def _vae(folder: Path) -> Path:
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        net = AutoencoderKL.from_config(VAE_CONFIG)
    net.load_state_dict(numbered(net.state_dict()))
    net.save_pretrained(folder)
    return folder
