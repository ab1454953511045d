"""What merges of weights cost on SDXL: 15 LoRAs of rank 128 on every attention, feed-forward and text-encoder layer, CPU.

Layers go by shape: one of each shape is merged, on random factors in half precision, and counts as often as SDXL has it; with
`--whole` every layer is merged. Prints processor seconds of one thread beside the floor, what multiplying every LoRA's factors
out once would take at the speed that this machine's products of matrices have; the memory that a merge needs beside the LoRAs;
and, for all layers again, how the cost grows with the number of LoRAs and their rank.
`python benchmarks/weight_merges.py [LORAS] [RANK] [--whole]` (about three minutes; `--whole` two hours).
"""

import resource
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from generation.lora.factors import Factors, Lora
from generation.merge.lowrank import axes
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS
from generation.merge.setup import WeightedLora

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
# Numbers of LoRAs and ranks: what users merge, and more.
GROWTH = ((2, 8), (3, 32), (2, 128), (3, 128), (8, 64), (15, 16))
LAYER = "unet.to_q"


def shapes() -> Counter[tuple[int, int]]:
    """Return how many layers of each shape SDXL has."""
    found: Counter[tuple[int, int]] = Counter()
    for blocks, layers in BLOCKS:
        for shape, count in layers.items():
            found[shape] += blocks * count
    return found


def loras(shape: tuple[int, int], count: int, rank: int) -> list[WeightedLora]:
    """Return LoRAs with random factors of one layer, in half precision as files hold them."""
    rng, (outputs, inputs) = torch.Generator().manual_seed(0), shape
    made = []
    for place in range(count):
        down = (torch.randn(rank, inputs, generator=rng) / 25).half()
        up = (torch.randn(outputs, rank, generator=rng) / 25).half()
        made.append(WeightedLora(Lora(Path(), "", {LAYER: Factors(down, up)}, {LAYER: 1.0}), 1.0, place))
    return made


def seconds(name: str, parameters: dict[str, object], given: list[WeightedLora]) -> float:
    """Return the processor time of merging one layer, its factors brought to float32 on the way as in a run."""
    method = MERGE_METHODS[name]
    settings = method.settings(parameters).model_dump()
    start = time.process_time()
    parts = [one.part(LAYER, torch.device("cpu")) for one in given]
    method.function(parts, Layer(LAYER, 0, [1.0] * len(parts), range(len(parts))), **settings)
    return time.process_time() - start


def bases(given: list[WeightedLora]) -> float:
    """Return the processor time of the two bases of the LoRAs' core space."""
    parts = [one.part(LAYER, torch.device("cpu")) for one in given]
    start = time.process_time()
    axes(torch.cat([part.up for part in parts], dim=1))
    axes(torch.cat([part.down for part in parts]).T)
    return time.process_time() - start


def floor(rank: int) -> float:
    """Return the processor seconds of multiplying out factors of `rank`, once for each layer, at this machine's speed."""
    size = 1280
    one, other = torch.rand(size, size), torch.rand(size, size)
    spent = []
    for _ in range(5):
        start = time.process_time()
        torch.mm(one, other)
        spent.append(time.process_time() - start)
    return min(spent) / size**3 * rank * sum(outputs * inputs * count for (outputs, inputs), count in shapes().items())


def peak() -> int:
    """Return the largest resident memory so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def label(way: tuple[str, dict[str, object]]) -> str:
    """Return a merge's name and space."""
    name, parameters = way
    return f"{name} {parameters.get('space', '')}".strip()


def titled(*cells: str) -> None:
    """Print the head of a table."""
    print("| " + " | ".join(cells) + " |\n" + "|---" * len(cells) + "|")


def main(count: int = 15, rank: int = 128, *, whole: bool = False) -> None:
    """Print the cost of whole merges, layer by layer, then how it grows."""
    torch.set_num_threads(1)
    found = shapes()
    size = sum(2 * count * rank * sum(shape) * layers for shape, layers in found.items())
    least = floor(count * rank)
    sampled = "every one merged" if whole else "one of each shape merged"
    print(f"torch {torch.__version__}, 1 thread; {count} LoRAs of rank {rank}, {size / 1e9:.1f} GB")
    print(f"{found.total()} layers, {sampled}; floor, all LoRAs' factors multiplied out once: {least:.0f} s\n")
    titled("merge", "seconds", "x floor", "largest memory so far beside the LoRAs, GB")
    before, spent = peak(), {}
    for way in WAYS:
        for shape, layers in found.items():
            given, repeats = loras(shape, count, rank), layers if whole else 1
            spent[label(way), shape] = sum(seconds(*way, given) for _ in range(repeats)) / repeats
        total = sum(layers * spent[label(way), shape] for shape, layers in found.items())
        print(f"| {label(way)} | {total:.0f} | {total / least:.1f} | {(peak() - before) / 1e9:.2f} |", flush=True)
    print("\nMilliseconds of one layer:")
    names = [label(way) for way in WAYS]
    titled("outputs x inputs", "layers", *names, "bases of core space")
    for shape, layers in found.items():
        cells = [*(spent[name, shape] for name in names), bases(loras(shape, count, rank))]
        print(
            f"| {shape[0]} x {shape[1]} | {layers} | " + " | ".join(f"{1000 * cell:.0f}" for cell in cells) + " |", flush=True
        )
    print("\nSeconds of all layers, by LoRAs x rank:")
    titled("merge", *(f"{k} x {r}" for k, r in GROWTH))
    for way in WAYS:
        totals = [sum(layers * seconds(*way, loras(shape, k, r)) for shape, layers in found.items()) for k, r in GROWTH]
        print(f"| {label(way)} | " + " | ".join(f"{total:.0f}" for total in totals) + " |", flush=True)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument != "--whole"]
    main(*numbers[:2], whole="--whole" in sys.argv)
