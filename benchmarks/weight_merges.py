"""What merges of weights cost on SDXL: 15 LoRAs of rank 128 on every attention, feed-forward and text-encoder layer, CPU.

Layers go by shape: one of each shape is merged, on random factors in half precision, and counts as often as SDXL has it. Prints
processor seconds of one thread, the memory that a merge needs beside the LoRAs, and how the cost grows with the number of LoRAs
and their rank. Run alone on a machine: `python benchmarks/weight_merges.py [LORAS] [RANK]` (about five minutes).
"""

import resource
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from generation.lora import Factors, Lora
from generation.merge import MERGE_METHODS
from generation.merge.layer import Layer
from generation.merge.parts import Weighted

# Shapes (outputs, inputs) of SDXL's layers and how many of each: transformer blocks of the UNet, layers of its text encoders.
BLOCKS: tuple[tuple[int, dict[tuple[int, int], int]], ...] = (
    (10, {(640, 640): 6, (640, 2048): 2, (5120, 640): 1, (640, 2560): 1}),
    (60, {(1280, 1280): 6, (1280, 2048): 2, (10240, 1280): 1, (1280, 5120): 1}),
    (12, {(768, 768): 4, (3072, 768): 1, (768, 3072): 1}),
    (32, {(1280, 1280): 4, (5120, 1280): 1, (1280, 5120): 1}),
)
WAYS: tuple[tuple[str, dict[str, object]], ...] = (
    ("direct", {}),
    ("ties", {"space": "core"}),
    ("dare_linear", {"space": "core"}),
    ("svd", {}),
    ("knots", {}),
    ("tsv", {}),
    ("ties", {"space": "dense"}),
)
LAYER = "unet.to_q"


def shapes() -> Counter[tuple[int, int]]:
    """Return how many layers of each shape SDXL has."""
    found: Counter[tuple[int, int]] = Counter()
    for blocks, layers in BLOCKS:
        for shape, count in layers.items():
            found[shape] += blocks * count
    return found


def loras(shape: tuple[int, int], count: int, rank: int) -> list[Weighted]:
    """Return LoRAs with random factors of one layer, in half precision as files hold them."""
    rng, (outputs, inputs) = torch.Generator().manual_seed(0), shape
    made = []
    for place in range(count):
        down = (torch.randn(rank, inputs, generator=rng) / 25).half()
        up = (torch.randn(outputs, rank, generator=rng) / 25).half()
        made.append(Weighted(Lora(Path(), "", {LAYER: Factors(down, up)}, {LAYER: 1.0}), 1.0, place))
    return made


def seconds(name: str, parameters: dict[str, object], given: list[Weighted]) -> float:
    """Return the processor time of merging one layer, its factors brought to float32 on the way as in a run."""
    method = MERGE_METHODS[name]
    settings = method.settings(parameters).model_dump()
    start = time.process_time()
    parts = [one.part(LAYER, torch.device("cpu")) for one in given]
    method.function(parts, Layer(LAYER, 0, [1.0] * len(parts), range(len(parts))), **settings)
    return time.process_time() - start


def peak() -> int:
    """Return the largest resident memory so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(count: int = 15, rank: int = 128) -> None:
    """Print the cost of whole merges, then how it grows on one layer."""
    torch.set_num_threads(1)
    found = shapes()
    size = sum(2 * count * rank * (sum(shape)) * layers for shape, layers in found.items())
    print(f"torch {torch.__version__}, 1 thread; {count} LoRAs of rank {rank}, {found.total()} layers, {size / 1e9:.1f} GB")
    print(
        "| merge | seconds | of it 1280 x 1280 layers, each | largest memory so far beside the LoRAs, GB |\n|---|---|---|---|"
    )
    before = peak()
    for name, parameters in WAYS:
        spent = {shape: seconds(name, parameters, loras(shape, count, rank)) for shape in found}
        total = sum(found[shape] * value for shape, value in spent.items())
        label = f"{name} {parameters.get('space', '')}".strip()
        print(f"| {label} | {total:.0f} | {spent[1280, 1280]:.2f} | {(peak() - before) / 1e9:.2f} |", flush=True)
    print("\nOne 1280 x 1280 layer, milliseconds:\n| merge | " + " | ".join(f"k = {k}, r = {r}" for k, r in GROWTH) + " |")
    print("|---" * (len(GROWTH) + 1) + "|")
    for name, parameters in WAYS:
        cells = [1000 * seconds(name, parameters, loras((1280, 1280), k, r)) for k, r in GROWTH]
        label = f"{name} {parameters.get('space', '')}".strip()
        print(f"| {label} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |", flush=True)


GROWTH = ((2, 16), (4, 16), (8, 16), (15, 16), (2, 64), (8, 64), (2, 128))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
