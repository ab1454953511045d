"""KID: are two sets of images alike to a classifier, without a bias from their size? Through torch-fidelity."""

from evalkit.encoders.inception import INCEPTION, load_inception
from evalkit.metric_spec.set_metric import Features, set_metric

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020


@set_metric(
    unit="squared maximum mean discrepancy",
    source="Binkowski 2018 (arXiv 1801.01401), section 4",
    weights=INCEPTION,
    load=load_inception,
    reduction=f"mmd2-cubic-{SUBSETS}x{SUBSET_SIZE}-seed{SEED}",
    # the size of the subsets its authors average over; smaller sets are compared whole
    least=SUBSET_SIZE,
    packages=("torch-fidelity",),
)
def kid(images: Features, others: Features) -> float:
    """Squared discrepancy of Inception's features under a cubic kernel, mean over 100 subsets of 1,000; can be negative."""
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    result = kid_features_to_metric(
        torch.from_numpy(images),
        torch.from_numpy(others),
        kid_subsets=SUBSETS,
        kid_subset_size=min(SUBSET_SIZE, len(images), len(others)),
        rng_seed=SEED,
        verbose=False,
    )
    return float(result[KEY_METRIC_KID_MEAN])
