"""How far variants of merge methods are from ours: relative distance of the merged changes, on random LoRAs.

`python -m benchmarks.method_variants` prints the table that docstrings of methods refer to. LoRAs have the shape of an SDXL
attention layer, rank 16, entries from N(0, 1), and layers of different strength.
"""

from pathlib import Path

import torch
from torch import Tensor

from generation.lora.factors import Factors, Lora
from generation.merge.calibration import Moments
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS

WIDTH, RANK, LAYERS, WEIGHTS = 640, 16, 8, (0.5, 1.0)


def random_loras(seed: int = 0, width: int = WIDTH, layers: int = LAYERS) -> list[Lora]:
    """Return two LoRAs of several layers whose strength varies by a factor of 4."""
    generator = torch.Generator().manual_seed(seed)
    loras = []
    for number in range(len(WEIGHTS)):
        factors = {}
        for layer in range(layers):
            strength = 2 ** float(torch.rand(1, generator=generator) * 2 - 1)
            down, up = (torch.randn(*shape, generator=generator) for shape in ((RANK, width), (width, RANK)))
            factors[f"unet.{layer}"] = Factors(down, up * strength)
        loras.append(Lora(Path(f"{number}.safetensors"), str(number), factors, dict.fromkeys(factors, 1.0)))
    return loras


def merged(method: str, weights: tuple[float, ...], **parameters: object) -> list[Tensor]:
    """Return the merged change of every layer."""
    loras, results = random_loras(), []
    shared: dict[tuple[str, ...], float] = {}
    for name in loras[0].factors:
        parts = [lora.part(name, weight) for lora, weight in zip(loras, weights, strict=True)]
        layer = Layer(name, 0, weights, range(len(loras)), dict(enumerate(loras)), shared=shared)
        made = MERGE_METHODS[method].function(parts, layer, **parameters)
        results.append(made.dense() if isinstance(made, Factors) else made)
    return results


def fitted(count: int, **parameters: object) -> list[Tensor]:
    """Return gradient fusion of one layer of width 320 after `count` correlated inputs of each LoRA."""
    generator = torch.Generator().manual_seed(1)
    parts = [Factors(torch.randn(RANK, 320, generator=generator), torch.randn(320, RANK, generator=generator)) for _ in WEIGHTS]
    moments = Moments([part.down for part in parts], hidden=False)
    for number in range(len(parts)):
        # activations of real layers have few strong directions
        mixing = torch.diag(1 / torch.arange(1.0, 321)) @ torch.linalg.qr(torch.randn(320, 320, generator=generator))[0]
        moments.add(torch.randn(count, 320, generator=generator) @ mixing, number)
    layer = Layer("unet.0", 0, WEIGHTS, range(len(parts)))
    result: Factors = MERGE_METHODS["gradient_fusion"].function(parts, layer, moments, **parameters)
    return [result.dense()]


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    """Return ||one - other|| / ||other|| over all layers."""
    difference = sum(float((a - b).square().sum()) for a, b in zip(one, other, strict=True))
    return (difference / sum(float(b.square().sum()) for b in other)) ** 0.5


def main() -> None:
    """Print the table."""
    equal = (1.0,) * len(WEIGHTS)
    rows = [
        ("ties, density .2", "trim per layer", "over the model (authors)", equal, {"density": 0.2}, {"trim": "model"}),
        ("magnitude_prune, density .2", "trim per layer", "over the model", equal, {"density": 0.2}, {"trim": "model"}),
        ("ties, weights .5 and 1", "weighted votes", "equal votes (peft)", WEIGHTS, {"density": 0.5}, {"vote": "equal"}),
        (
            "ties, weights .5 and 1",
            "mean by count",
            "mean by weights (mergekit)",
            WEIGHTS,
            {"density": 0.5},
            {"mean": "weights"},
        ),
    ]
    rows.append(("tsv", "core space", "dense (authors)", equal, {}, {"space": "dense"}))
    print("| method | ours | variant | relative distance |\n|---|---|---|---|")
    for name, ours, variant, weights, shared, other in rows:
        method = name.partition(",")[0]
        found = distance(merged(method, weights, **shared), merged(method, weights, **shared, **other))
        print(f"| {name} | {ours} | {variant} | {found:.2f} |")
    for count in (32, 4096):
        closed, searched = (fitted(count, solver=solver) for solver in ("closed", "lbfgs"))
        print(
            f"| gradient_fusion, {count} inputs | closed form | L-BFGS, 50 steps (paper) | {distance(searched, closed):.2f} |"
        )


if __name__ == "__main__":
    main()
