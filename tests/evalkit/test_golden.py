"""A number changes only together with its signature: golden values of every registered metric."""

import json
import re

import pytest

from evalkit.metrics import METRICS
from evalkit.metrics.presets import PRESETS
from evalkit.set_metrics import SET_METRICS
from tests.evalkit.golden import FILE, SLOW, changed_without_revision, measured

GOLDEN = json.loads(FILE.read_text())
REVISIONS = re.compile(r"rev[\d.]+$")
RECORD = "run `python -m tests.evalkit.golden` and commit tests/evalkit/golden_values.json"


@pytest.fixture(scope="module")
def now(every_weights, tmp_path_factory):
    return measured(tmp_path_factory.mktemp("golden"), every_weights)


def test_every_registered_metric_has_golden_values():
    presets = {f"{metric} {preset}" for preset, metrics in PRESETS.items() for metric in metrics}
    wrong = set(GOLDEN) ^ ({*METRICS, *SET_METRICS, *presets} - set(SLOW))
    assert not wrong, f"{sorted(wrong)}: not recorded, or no longer registered; {RECORD}"
    assert SLOW == ("tres",)  # counted: whoever adds one says why in golden.py


def test_no_number_changed_under_an_unchanged_signature(now):
    assert changed_without_revision(GOLDEN, now) == []


def test_every_recorded_revision_is_the_current_one(now):
    for name, entry in now.items():
        current, recorded = (REVISIONS.search(one["signature"])[0] for one in (entry, GOLDEN[name]))
        assert current == recorded, f"{name}: {recorded} is recorded, {current} is current; {RECORD}"


def test_a_change_is_noticed_unless_the_revision_was_raised():
    one = {"clip_t": {"signature": "clip_t|rev1.1.1", "values": [0.25, 0.5]}}
    moved = {"clip_t": {"signature": "clip_t|rev1.1.1", "values": [0.25, 0.501]}}
    raised = {"clip_t": {"signature": "clip_t|rev2.1.1", "values": [0.25, 0.501]}}
    assert changed_without_revision(one, moved) == ["clip_t"]
    assert changed_without_revision(one, raised) == []
