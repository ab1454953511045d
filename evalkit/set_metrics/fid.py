"""FID: are two sets of images alike to a classifier, as far as means and covariances tell? Through torch-fidelity."""

from evalkit.encoders.inception import INCEPTION, load_inception
from evalkit.metric_spec.set_metric import Features, set_metric


@set_metric(
    unit="squared Fréchet distance",
    source="Heusel 2017 (arXiv 1706.08500), equation 6",
    weights=INCEPTION,
    load=load_inception,
    reduction="frechet",
    # The authors' own advice (bioinf-jku/TTUR, README): below 2,048 images the covariance of 2,048 features has no full rank.
    least=10_000,
    packages=("torch-fidelity",),
)
def fid(images: Features, others: Features) -> float:
    """Fréchet distance between normal distributions fitted to Inception's features of two sets."""
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    one, other = (fid_features_to_statistics(torch.from_numpy(features)) for features in (images, others))
    return float(fid_statistics_to_metric(one, other, verbose=False)[KEY_METRIC_FID])
