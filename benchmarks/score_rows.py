"""What very many images need in memory to be scored, stored and loaded: peak of each step, in a process of its own.

    python benchmarks/score_rows.py [--images 10000 100000]

A run of tiny pictures (6 x 6) is scored by a metric of plain pixels, scored again, shown, and loaded into SQLite. Each step's
peak is printed beside that of a process that does no more than hold the run's manifest.
Bar: it hardly grows with their number. What grows are the images, packed, their cases' records, and the hashes that scoring
remembers, so that no picture is decoded twice.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image as Pictures

from evalkit.io.atomic_files import sha256_bytes
from evalkit.run.image_records import ImageRecord, image_path
from evalkit.run.manifest import Arm, Case, Concept, Manifest

ARMS, SEEDS = ("direct", "mc_dropout", "orthogonal_mc_dropout", "ties", "dare"), 4
METRIC = '''
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure

@metric(direction="none", unit="level", limits=(0.0, 255.0), source="this benchmark", licence="none")
def brightness(weights, device):
    """Mean of all pixels."""
    return Measure("brightness", lambda pixels: pixels.mean())
'''


def main() -> None:
    """Make a run of each size and print what its steps take; with a step and a run, do that step alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    if options.step:
        begun = time.perf_counter()
        said = STEPS[options.step](options.run)
        # on Linux; getrusage counts what the process that started this one held
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        print(f"{options.step:>8}: {peak:6.0f} MB at most, {time.perf_counter() - begun:6.1f} s; {said}")
        return
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            make_run(Path(folder), count)
            print(f"{count:,} images", flush=True)
            for step in STEPS:
                subprocess.run([sys.executable, __file__, "--step", step, "--run", folder], check=True)


def make_run(run: Path, count: int) -> None:
    """Write a run of `count` different pictures and its manifest."""
    per_case = len(ARMS) * SEEDS
    cases = tuple(
        Case(id=f"c{number}", concepts=("cat",), prompt="a cat", plain_prompt="a cat", seeds=tuple(range(SEEDS)))
        for number in range(count // per_case)
    )
    images = []
    for number, (case, arm, seed) in enumerate((case, arm, seed) for case in cases for arm in ARMS for seed in range(SEEDS)):
        buffer = io.BytesIO()
        Pictures.frombytes("RGB", (6, 6), number.to_bytes(4, "big") * 27).save(buffer, "PNG", compress_level=1)
        path = run / image_path(case.id, arm, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        sha256 = sha256_bytes(buffer.getvalue())
        place = image_path(case.id, arm, seed)
        images.append(ImageRecord(path=place, sha256=sha256, width=6, height=6, case=case.id, arm=arm, seed=seed))
    Manifest(
        name="benchmark",
        experiment_sha256="0" * 64,
        source="imported",
        concepts=(Concept(name="cat", words="cat", class_word="cat"),),
        arms=tuple(Arm(label=arm, method=arm) for arm in ARMS),
        cases=cases,
        images=tuple(images),
    ).save(run)
    (run / "brightness.py").write_text(METRIC)


def hold(run: Path) -> str:
    """Hold the manifest, with all packages that scoring imports."""
    import pyarrow.parquet  # noqa: F401
    import torch  # noqa: F401

    import evalkit.scoring.run_scorer  # noqa: F401

    return f"{len(Manifest.load(run).images):,} images in the manifest"


def score(run: Path) -> str:
    """Score the run and go through its rows, as the command does for its table."""
    from evalkit.metrics.plugins import load_plugin
    from evalkit.scoring.run_scorer import score_run
    from evalkit.scoring.summary import summarise

    result = score_run(run, load_plugin(run / "brightness.py"), device="cpu", in_memory=False)
    means = summarise(result.found)
    return f"{len(result.found):,} rows, {result.tally.decodes:,} decoded, {len(means)} means over {means[0].n:,} each"


def load(run: Path) -> str:
    """Load the run into a database."""
    from db.run_loader import load_run
    from db.session import open_database

    loaded = load_run(open_database(f"sqlite:///{run}/study.db"), run)
    return f"{loaded.scores:,} scores in the database"


STEPS = {"manifest": hold, "cold": score, "warm": score, "load": load}

if __name__ == "__main__":
    main()
