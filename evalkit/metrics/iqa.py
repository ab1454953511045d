"""Any other no-reference metric of pyiqa, by its name there: `iqa:topiq_nr`, `iqa:clipiqa`, ..."""

from collections.abc import Mapping, Sequence

from evalkit.distribution import install_command
from evalkit.encoders.pyiqa_nets import load_pyiqa
from evalkit.encoders.quality import LICENCE
from evalkit.errors import UserError, unknown
from evalkit.metric_spec.metric_card import Encoder, MetricCard, metric, pick
from evalkit.weights.lookup import Weights

PREFIX = "iqa:"
# pyiqa calls these no-reference metrics too; they judge sets of images, or images with captions.
OF_SETS_AND_TEXTS = ("fid", "sfid", "fid_dinov2", "inception_score", "clipscore")


def metrics_by_name(registry: Mapping[str, MetricCard], names: Sequence[str]) -> list[MetricCard]:
    """Return the cards of these names, each once: those of the registry in its order, then pyiqa's others.

    Raises:
        UserError: the metric is unknown; the message names the known ones.
    """
    for name in names:
        if not isinstance(name, str):
            raise unknown("no metric", name, registry)
    theirs = [name for name in dict.fromkeys(names) if name.startswith(PREFIX)]
    listed = pick(registry, [name for name in names if not name.startswith(PREFIX)])
    return [*listed, *(_card(name, tuple(registry)) for name in theirs)]


def _card(name: str, own: tuple[str, ...]) -> MetricCard:
    """Return the card of pyiqa's metric of this name, prefix included; those of `own` have names without it."""
    try:
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: pyiqa is not installed; run: {install_command('metrics')}") from error
    theirs = name.removeprefix(PREFIX)
    if theirs in own:
        raise UserError(f"{name}: is called {theirs!r} here, without {PREFIX!r}; write {theirs}")
    allowed = sorted(
        key
        for key, config in DEFAULT_CONFIGS.items()
        if config["metric_mode"] == "NR" and key not in (*OF_SETS_AND_TEXTS, *own)
    )
    if theirs not in allowed:
        raise unknown("pyiqa has no no-reference metric", name, [f"{PREFIX}{key}" for key in allowed])
    config = DEFAULT_CONFIGS[theirs]

    def load(weights: Weights, device: str) -> Encoder:
        return load_pyiqa(theirs, device)

    load.__name__ = name
    load.__doc__ = f"pyiqa's {theirs}, with the settings and weights it has by default."
    return metric(
        direction="lower" if config.get("lower_better") else "higher",
        unit=f"score, range by pyiqa: {config['score_range']}",
        limits=(None, None),
        source=f"pyiqa, {theirs}",
        licence=LICENCE,
        on_request=True,
    )(load)
