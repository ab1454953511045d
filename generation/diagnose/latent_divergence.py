"""Divergence between latent histograms of generated and prior images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evalkit.errors import UserError
from evalkit.metric_spec.histograms import Counts, binned, density, kullback_leibler
from evalkit.plural import plural
from evalkit.run.manifest import FILE_NAME, Manifest
from generation.paths import IMAGE_SUFFIXES
from generation.pipeline import Pipeline
from generation.train.training_images import read

NORMAL = 1.96


@dataclass(frozen=True)
class LatentDivergence:
    """Divergence in nats, of all values or of one channel.

    KL(images || prior) with a 95 % interval, the reverse KL, and Jensen-Shannon. `of` is the arm that generated the images, or
    "images" if they are not a run's.
    """

    of: str
    channel: str
    images: int
    forward: float
    low: float
    high: float
    reverse: float
    jensen_shannon: float


def pictures(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each arm of a run, or all images below a folder as "images".

    Raises:
        UserError: the folder contains no images, or the run is incomplete.
    """
    if (folder / FILE_NAME).is_file():
        run = Manifest.load(folder).complete(folder)
        return {arm.label: [folder / one.path for one in run.images if one.arm == arm.label] for arm in run.arms}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise UserError(
            f"{folder}: contains no image; give a run, or a folder with files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    return {"images": paths}


def latent_counts(pipeline: Pipeline, paths: Sequence[Path]) -> Counts:
    """Return, per image and latent channel, how many values fall into each bin; [images, channels, bins].

    Latents are the mode of the VAE's distribution times its scaling factor, in float32.

    Raises:
        UserError: the images differ in size, or the VAE cannot divide their size.
    """
    counts = []
    size = read(paths[0]).size
    if size[0] % pipeline.vae_scale_factor or size[1] % pipeline.vae_scale_factor:
        raise UserError(f"{paths[0]}: is {size[0]} x {size[1]} px; both must be multiples of {pipeline.vae_scale_factor}")
    vae = pipeline.vae.to(torch.float32)
    for path in paths:
        image: Image.Image = read(path)
        if image.size != size:
            raise UserError(
                f"{path}: is {image.width} x {image.height} px, {paths[0].name} is {size[0]} x {size[1]}; give one size"
            )
        with torch.no_grad():
            pixels = pipeline.image_processor.preprocess(image).to(vae.device, torch.float32)
            latents = vae.encode(pixels).latent_dist.mode()[0] * vae.config.scaling_factor
        counts.append(binned(latents.cpu().numpy()))
    return np.array(counts, dtype=np.float64)


def divergences(of: str, images: Counts, prior: Counts) -> list[LatentDivergence]:
    """Return the divergences of all values and of each channel; intervals are the jackknife's over images, not pixels.

    NCR (arXiv 2506.06483), Figure 6. The paper states neither bins nor direction; here 200 bins on [-5, 5] and two for what
    is outside, and KL(images || prior) first.

    Raises:
        UserError: there are not as many images on both sides: a histogram of fewer is the rougher, hence the farther. Or there
            is one alone, which has no interval.
    """
    if len(images) != len(prior):
        raise UserError(
            f"{of}: {plural(len(images), 'image')} against {plural(len(prior), 'prior image')}; give as many on both sides"
        )
    if len(images) < 2:
        raise UserError(f"{of}: one image has no interval; give two or more on both sides")
    channels = images.shape[1]
    wholes = [("all", images.sum(1), prior.sum(1))]
    wholes += [(str(channel), images[:, channel], prior[:, channel]) for channel in range(channels)]
    return [_divergence(of, name, one, other) for name, one, other in wholes]


def _divergence(of: str, name: str, images: Counts, prior: Counts) -> LatentDivergence:
    p, q = density(images.sum(0)), density(prior.sum(0))
    middle = (p + q) / 2
    forward, reach = kullback_leibler(p, q), NORMAL * _error(images, prior)
    shannon = (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2
    low, high = max(0.0, forward - reach), forward + reach
    return LatentDivergence(of, name, len(images), forward, low, high, kullback_leibler(q, p), shannon)


def _error(images: Counts, prior: Counts) -> float:
    """Return the jackknife's standard error of KL(images || prior): each image of either side left out once.

    A bootstrap would draw images twice, hence rougher histograms, and its percentiles are above the divergence itself.
    """
    drawn, others, n = images.sum(0), prior.sum(0), len(images)
    without = (
        [kullback_leibler(density(drawn - one), density(others)) for one in images],
        [kullback_leibler(density(drawn), density(others - one)) for one in prior],
    )
    return float(np.sqrt(sum((n - 1) * np.var(values) for values in without)))
