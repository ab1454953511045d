"""Latent KL: do images have the latents that others have, or do merged weights push them elsewhere?"""

from evalkit.encoders.vae import VAE, load_vae
from evalkit.metric_spec.set_metric import Features, set_metric


@set_metric(
    unit="nats",
    source="Ni 2025 (noise consistency), Figure 6; bins, direction and smoothing are ours",
    weights=VAE,
    load=load_vae,
    reduction="kl-images-from-others-200bins[-5,5]+2-eps1e-6",
    # Values within an image depend on each other, so images count, not values; with fewer than these a few decide.
    least=50,
)
def latent_kl(images: Features, others: Features) -> float:
    """KL(images || others) between the histograms of all latent values of two sets, in 202 bins."""
    import numpy as np

    from evalkit.metric_spec.histograms import EDGES, density, kullback_leibler

    one, other = (
        density(features.astype(np.float64).sum(axis=0).reshape(-1, len(EDGES) - 1).sum(axis=0))
        for features in (images, others)
    )
    return kullback_leibler(one, other)
