"""Golden values of every registered metric: numbered weights and images in, signatures and numbers out.

`python -m tests.evalkit.golden` records what is new. It refuses a number that changed under an unchanged signature: raise
`revision` of the metric or of its model's recipe first.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.metric_spec.metric_card import MetricCard
from evalkit.metrics import METRICS
from evalkit.metrics.presets import PRESETS, with_preset
from evalkit.run.feature_cache import MemoryFeatureStore
from evalkit.scoring.run_scorer import score_run
from evalkit.scoring.set_scorer import score_sets
from evalkit.set_metrics import SET_METRICS
from tests.evalkit.numbered_weights import numbered_image, save_every_model

Entry = dict[str, Any]
FILE = Path(__file__).parent / "golden_values.json"
DESCRIPTION = """
name = "golden"
[[concepts]]
name = "star"
words = "<s> star"
class_word = "star"
references = "references/star"
[[cases]]
id = "one"
concepts = ["star"]
prompt = "a photo of <s> star and red circle"
"""
# Concept metrics compare concepts with each other, so their run has two.
CONCEPTS = """
name = "golden concepts"
[[concepts]]
name = "star"
words = "<s> star"
class_word = "star"
references = "references/star"
[[concepts]]
name = "circle"
words = "<c> circle"
class_word = "circle"
references = "references/circle"
[[cases]]
id = "one"
concepts = ["star", "circle"]
prompt = "a photo of <s> star and <c> circle"
"""
# A forward pass of TReS is 50 crops of 224 x 224 pixels, minutes on a busy machine: recorded and compared by `make slow` alone.
SLOW = ("tres",)
RELATIVE, ABSOLUTE = 2e-4, 2e-5


def make_golden_run(root: Path, description: str = DESCRIPTION) -> Path:
    """Return a run of one case, two arms, two seeds and two references per concept, all numbered."""
    from evalkit.run.import_images import import_images

    folder = root / "images"
    for arm in ("direct", "dropout"):
        for seed in (0, 1):
            path = folder / "one" / arm / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            numbered_image(f"{arm} {seed}").save(path)
    for index, concept in enumerate(("star", "star", "circle", "circle")):
        if f"references/{concept}" not in description:
            continue
        path = folder / "references" / concept / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbered_image(f"reference {index}", (120, 128)).save(path)
    (folder / "import.toml").write_text(description)
    import_images(folder, root / "run")
    return root / "run"


def golden_cards() -> dict[str, MetricCard]:
    """Return every registered metric, and every one that a preset changes, by metric and preset."""
    cards = {name: card for name, card in METRICS.items() if name not in SLOW}
    for preset, conventions in PRESETS.items():
        for card in with_preset([METRICS[name] for name in conventions], preset):
            cards[f"{card.name} {preset}"] = card
    return cards


def measured(root: Path, weights: Mapping[str, Path]) -> dict[str, Entry]:
    """Return signature and values of every registered metric of images and of sets."""
    run = make_golden_run(root)
    entries: dict[str, Entry] = {}
    entries |= measured_concepts(root / "concepts", weights)
    for preset in (None, *PRESETS):
        cards = [card for key, card in golden_cards().items() if (preset and key.endswith(f" {preset}")) or key == card.name]
        names = [card.name for card in cards if (preset is None or card.name in PRESETS[preset]) and card.needs != "concepts"]
        result = score_run(run, names, weights=weights, device="cpu", **({"preset": preset} if preset else {}))
        if result.problems or result.missing:
            raise AssertionError(f"not scored: {[*result.problems, *result.missing.items()]}")
        for name in names:
            rows = [row for row in result.rows if row.metric == name]
            entries[f"{name} {preset}" if preset else name] = _entry(rows[0].signature, [row.value for row in rows])
    paths = sorted(run.glob("images/**/*.png"))
    sets = score_sets({"set": paths[:2]}, paths[2:], list(SET_METRICS), MemoryFeatureStore(), weights=weights, device="cpu")
    for row in sets.rows:
        entries[row.metric] = _entry(row.signature, [row.value])
    return entries


def measured_concepts(root: Path, weights: Mapping[str, Path]) -> dict[str, Entry]:
    """Return signature and values of every registered concept metric."""
    names = [name for name, card in METRICS.items() if card.needs == "concepts"]
    result = score_run(make_golden_run(root, CONCEPTS), names, weights=weights, device="cpu")
    if result.problems or result.missing:
        raise AssertionError(f"not scored: {[*result.problems, *result.missing.items()]}")
    rows = {name: [row for row in result.rows if row.metric == name] for name in names}
    return {name: _entry(group[0].signature, [row.value for row in group]) for name, group in rows.items()}


def _entry(signature: str, values: list[float]) -> Entry:
    """Return a golden entry; the weights' hash is left out, for it depends on how PyTorch writes its files."""
    parts = signature.split("|")
    return {"signature": "|".join([*parts[:2], *parts[3:]]), "values": [float(f"{value:.9g}") for value in values]}


def close(one: object, other: object) -> bool:
    """Return whether two lists of values are equal up to rounding between machines."""
    left, right = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=RELATIVE, atol=ABSOLUTE))


def changed_without_revision(known: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[str]:
    """Return the metrics whose numbers differ from the recorded ones under the same signature."""
    return [
        name
        for name, entry in now.items()
        if name in known
        and known[name]["signature"] == entry["signature"]
        and not close(known[name]["values"], entry["values"])
    ]


def main() -> int:
    """Record golden values; return 1 if a number changed and its signature did not."""
    known = json.loads(FILE.read_text()) if FILE.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "weights").mkdir()
        now = measured(root, save_every_model(root / "weights"))
    changed = changed_without_revision(known, now)
    if changed:
        sys.stderr.write(f"{', '.join(changed)}: the numbers changed and the signatures did not; raise their revisions first\n")
        return 1
    FILE.write_text(json.dumps({name: _latest(known.get(name), entry) for name, entry in now.items()}, indent=1) + "\n")
    return 0


def _latest(known: Entry | None, now: Entry) -> Entry:
    """Return the recorded entry if its signature still holds, so that rounding on another machine changes nothing."""
    return known if known is not None and known["signature"] == now["signature"] else now


if __name__ == "__main__":
    sys.exit(main())
