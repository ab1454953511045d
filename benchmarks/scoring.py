"""What scoring costs beside the bare models: clip_t, clip_i and dino over one run, full-size nets with random weights, CPU.

    python benchmarks/scoring.py [--images 24] [--rounds 3] [--sides 512 1024]

Ways to the same scores, interleaved round by round on one compute thread; printed are medians of the ratios within a round (one
more round goes before and is left out). Nets are built beforehand for all; that takes as long for everybody.

- loop: batches of 32 through both nets, each picture decoded and shrunk on the way, once
- threads, processes: the loop, while two of either decode what comes next
- cold: `score_run` with an empty cache; bar: at most 5 % over the loop
- warm: the same again, weights found and their hashes known; bar: at most 2 % of cold
- peer: one image at a time, decoded anew for every metric, its reference beside it, as DreamBench++ does
  (dreambench_plus@66ca27e), over a quarter of the images, times four; bar: cold is at least 3 times as fast

Ratios of seconds are true on a machine that does nothing else; beside them stand those of the process' own CPU seconds. Timings
count only where all ways agree (1e-5) and decodes and forward passes are as few as can be.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evalkit.encoders.clip import ClipEncoder
from evalkit.encoders.dino import DinoEncoder
from evalkit.encoders.forward import building, centre_square, normalised
from evalkit.io.image_reader import load
from evalkit.metric_spec.metric_card import Model
from evalkit.metric_spec.similarity import cosine, cosine_matrix
from evalkit.run.image_records import ImageFile
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest
from evalkit.scoring import run_scorer as run_scoring
from evalkit.weights.lookup import Weights

METRICS = ("clip_t", "clip_i", "dino")
BATCH, REFERENCES, AGREEMENT, WORKERS, PEER_SHARE = 32, 4, 1e-5, 2, 4
PROMPT = "a photo of a cat beside a toy"
DESCRIPTION = f"""
name = "benchmark"
[[concepts]]
name = "cat"
words = "cat"
class_word = "cat"
references = "references"
[[cases]]
id = "one"
concepts = ["cat"]
prompt = "{PROMPT}"
"""
Pair = tuple[Tensor, Tensor]


def main() -> None:
    """Measure every side length and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    options = parser.parse_args()
    torch.set_num_threads(1)
    spawned = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as name,
        ThreadPoolExecutor(WORKERS) as threads,
        ProcessPoolExecutor(WORKERS, mp_context=spawned, initializer=torch.set_num_threads, initargs=(1,)) as processes,
    ):
        os.environ["EVALKIT_CACHE"] = str(Path(name) / "cache")
        clip, dino = models(Path(name))
        for side in options.sides:
            run = make_run(Path(name) / str(side), options.images, side)
            bench = Bench(run, Manifest.load(run), clip, dino, {"threads": threads, "processes": processes})
            report(side, list(bench.rounds(options.rounds + 1)))


def models(folder: Path) -> tuple[ClipEncoder, DinoEncoder]:
    """Return CLIP ViT-B/32 and DINO ViT-S/16 at full size, their random weights in files."""
    import open_clip
    import timm

    with building():
        torch.manual_seed(0)
        nets = (
            open_clip.create_model("ViT-B-32-quickgelu", load_weights=False),
            timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0),
        )
    for net, name in zip(nets, ("clip", "dino"), strict=True):
        torch.save(net.state_dict(), folder / f"{name}.pt")
    clip = ClipEncoder(Weights((folder / "clip.pt",), "0" * 64, "random"), "cpu")
    dino = DinoEncoder(Weights((folder / "dino.pt",), "1" * 64, "random"), "cpu")
    # built and filled now, so that no way is charged for it
    for encoder in (clip, dino):
        encoder.net.eval()
    return clip, dino


def make_run(folder: Path, count: int, side: int) -> Path:
    """Return a run of `count` PNGs in one arm, smooth with some noise as photos have, with 4 references."""
    rng = np.random.default_rng(side)
    for place, number in (("one/direct", count), ("references", REFERENCES)):
        (folder / "images" / place).mkdir(parents=True)
        for index in range(number):
            small = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8))
            smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
            noisy = np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / "images" / place / f"{index}.png")
    (folder / "images" / "import.toml").write_text(DESCRIPTION)
    import_images(folder / "images", folder / "run")
    return folder / "run"


def bare(encoder: ClipEncoder | DinoEncoder, batch: Tensor) -> np.ndarray:
    """Return what a net gives for prepared pictures, by nothing but the net."""
    with torch.inference_mode():
        inputs = normalised(batch, "cpu", encoder.mean, encoder.std)
        return (encoder.net.encode_image(inputs) if isinstance(encoder, ClipEncoder) else encoder.net(inputs)).numpy()


def prepared(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a file's picture as CLIP's and DINO's input; arrays, for tensors travel between processes by files."""
    pixels = load(path)
    return centre_square(pixels.image, 224, 224).numpy(), centre_square(pixels.image, 256, 224).numpy()


@dataclass
class Bench:
    """One run, the nets and the pools of workers."""

    run: Path
    manifest: Manifest
    clip: ClipEncoder
    dino: DinoEncoder
    pools: dict[str, Executor]

    def __post_init__(self) -> None:
        self.pictures: list[ImageFile] = [*self.manifest.images, *self.manifest.concepts[0].references]
        self.quarter = self.manifest.images[::PEER_SHARE]
        find = run_scoring.load_models

        def with_nets(*asked: object) -> tuple[dict[str, Model], dict[str, str]]:
            encoders, missing = find(*asked)  # type: ignore[arg-type]
            for encoder, ready in ((encoders["clip"], self.clip), (encoders["dino"], self.dino)):
                # a cached property, filled before anyone asks
                vars(encoder)["net"] = ready.net
            return encoders, missing

        self.find, self.with_nets = find, with_nets

    def rounds(self, count: int) -> Iterator[dict[str, tuple[float, float]]]:
        """Yield the seconds and the CPU seconds of each way per round."""
        ways: dict[str, Callable[[], list[float]]] = {
            "loop": lambda: self.values(map(self.one, self.pictures)),
            **{name: lambda pool=pool: self.values(self.ahead(pool)) for name, pool in self.pools.items()},
            "cold": self.cold,
            "warm": lambda: self.scored(0),
            "peer": self.peer,
        }
        expected = ways["loop"]()
        for _ in range(count):
            seconds = {}
            for name, way in ways.items():
                start, own = time.perf_counter(), time.process_time()
                result = way()
                share = len(self.manifest.images) / len(self.quarter) if name == "peer" else 1
                seconds[name] = (time.perf_counter() - start) * share, (time.process_time() - own) * share
                there = expected[: len(self.manifest.images) : PEER_SHARE] if name == "peer" else expected
                apart = float(np.abs(np.subtract(result, there)).max())
                if apart > AGREEMENT:
                    raise SystemExit(f"{name} disagrees by {apart:.1e}")
            yield seconds

    def one(self, picture: ImageFile) -> Pair:
        """Return a picture as both nets' input."""
        shown = load(self.run / picture.path)
        return self.clip.prepare(shown), self.dino.prepare(shown)

    def ahead(self, pool: Executor) -> Iterator[Pair]:
        """Yield the same in order, at most a batch and two per worker being made ahead."""
        waiting: deque[Future[tuple[np.ndarray, np.ndarray]]] = deque()
        for picture in self.pictures:
            waiting.append(pool.submit(prepared, self.run / picture.path))
            if len(waiting) > BATCH + 2 * WORKERS:
                yield tuple(map(torch.from_numpy, waiting.popleft().result()))
        while waiting:
            yield tuple(map(torch.from_numpy, waiting.popleft().result()))

    def values(self, pairs: Iterable[Pair]) -> list[float]:
        """Return the scores of all images, metric by metric, as a careful person would compute them by hand."""
        left: list[np.ndarray] = []
        right: list[np.ndarray] = []
        batch: list[Pair] = []
        for number, pair in enumerate(pairs, 1):
            batch.append(pair)
            if len(batch) == BATCH or number == len(self.pictures):
                left.append(bare(self.clip, torch.stack([one for one, _ in batch])))
                right.append(bare(self.dino, torch.stack([other for _, other in batch])))
                batch = []
        count = len(self.manifest.images)
        clip, dino = np.concatenate(left), np.concatenate(right)
        by_prompt = cosine(clip[:count], self.clip.texts([PROMPT])[0])
        by_references = [cosine_matrix(every[:count], every[count:]).mean(axis=1) for every in (clip, dino)]
        return [float(value) for values in (by_prompt, *by_references) for value in values]

    def cold(self) -> list[float]:
        """Score the run with nothing known."""
        (self.run / "scores.parquet").unlink(missing_ok=True)
        for file in (self.run / ".cache").glob("*"):
            file.unlink()
        return self.scored(len(self.pictures))

    def scored(self, decodes: int) -> list[float]:
        """Return the scores as evalkit makes them, once what it took is as little as it can be."""
        run_scoring.load_models = self.with_nets if decodes else self.find  # type: ignore[assignment]
        given = {name: net.weights.file for name, net in (("clip", self.clip), ("dino", self.dino))}
        result = run_scoring.score_run(self.run, METRICS, weights=given, device="cpu", batch_size=BATCH)
        passes = {name: math.ceil(decodes / BATCH) for name in ("clip", "dino")}
        if (result.tally.decodes, result.tally.forwards) != (decodes, passes) or result.problems:
            raise SystemExit(f"took {result.tally.decodes} decodes and {result.tally.forwards}, not {decodes} and {passes}")
        return [row.value for name in METRICS for row in result.rows if row.metric == name]

    def peer(self) -> list[float]:
        """Do the same work one image at a time, a reference encoded anew beside each image; return the scores of clip_t.

        With one reference per image, as it does there, the other scores are not those of the mean over all references.
        """
        shown = self.manifest.concepts[0].references

        def one(net: ClipEncoder | DinoEncoder, picture: ImageFile) -> np.ndarray:
            return bare(net, net.prepare(load(self.run / picture.path))[None])[0]

        by_prompt = [float(cosine(one(self.clip, image), self.clip.texts([PROMPT])[0])) for image in self.quarter]
        for net in (self.clip, self.dino):
            for index, image in enumerate(self.quarter):
                cosine(one(net, image), one(net, shown[index % len(shown)]))
        return by_prompt


def report(side: int, seconds: list[dict[str, tuple[float, float]]]) -> None:
    """Print the medians of seconds and of ratios within a round, with their range; the first round only warms up."""
    kept = seconds[1:]
    middle = {name: [round(statistics.median(one[name][place] for one in kept), 3) for place in (0, 1)] for name in kept[0]}
    print(f"{side} px, {len(kept)} rounds; [seconds, CPU seconds of this process]: {middle}")
    for above, below, bar in (
        ("cold", "loop", "at most 1.05"),
        ("warm", "cold", "at most 0.02"),
        ("peer", "cold", "at least 3"),
        ("threads", "loop", "no bar"),
        ("processes", "loop", "no bar; what its workers compute is not in the CPU seconds"),
    ):
        clock, own = ([one[above][place] / one[below][place] for one in kept] for place in (0, 1))
        print(
            f"  {above} / {below}: {statistics.median(clock):.4f} ({min(clock):.4f} to {max(clock):.4f}), "
            f"CPU {statistics.median(own):.4f} ({min(own):.4f} to {max(own):.4f}); {bar}"
        )


if __name__ == "__main__":
    main()
