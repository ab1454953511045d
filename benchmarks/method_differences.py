"""How far every merge method is from its authors' code, as one number per method; see each method's `difference`.

`python -m benchmarks.method_differences` prints the table; tests compare the numbers with the methods' texts. The right-hand
sides are the equations of the published code on dense changes of random LoRAs: two LoRAs of rank 16, layers of 320 x 320.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import published_merges as published
from benchmarks.method_variants import distance, fitted, random_loras
from benchmarks.published_merges import RANK, elect, largest, mean, total
from generation.lora.factors import Factors, Lora
from generation.merge.calibration import Moments
from generation.merge.dropout_masks import MaskDraws, channel_words, row_words
from generation.merge.elementwise import keep_at_random
from generation.merge.method_inputs import ColumnObjective, Layer, StepPlan
from generation.merge.methods import MERGE_METHODS

WIDTH = 320
LORAS = random_loras(width=WIDTH, layers=4)
Merge = Callable[[list[Tensor]], Tensor]


def merged(method: str, loras: Sequence[Lora], weights: Sequence[float] = (1.0, 1.0), **parameters: object) -> list[Tensor]:
    """Return our merged change of every layer."""
    settings = MERGE_METHODS[method].settings(parameters).model_dump()
    results, shared = [], {}
    for name in loras[0].factors:
        parts = [lora.part(name, weight) for lora, weight in zip(loras, weights, strict=True)]
        layer = Layer(name, 7, weights, range(len(loras)), dict(enumerate(loras)), shared=shared)
        change = MERGE_METHODS[method].function(parts, layer, **settings)
        results.append(change.dense() if isinstance(change, Factors) else change)
    return results


def layerwise(loras: Sequence[Lora], merge: Merge) -> list[Tensor]:
    """Return a merge of the dense changes of every layer."""
    return [merge([lora.part(name).dense() for lora in loras]) for name in loras[0].factors]


def apart(method: str, merge: Merge, **parameters: object) -> float:
    """Return the distance of our merge from one that works layer by layer on dense changes."""
    return distance(merged(method, LORAS, **parameters), layerwise(LORAS, merge))


def over_the_model(method: str, *, rotate: bool, trim: str = "layer") -> float:
    """Return the distance from TIES on each LoRA's whole model as one vector, in KnOTS' basis if `rotate`."""
    loras = LORAS
    spaces, vectors = [], []
    for name in loras[0].factors:
        changes = [lora.part(name).dense() for lora in loras]
        basis = torch.eye(WIDTH)
        if rotate:
            u, s, _ = torch.linalg.svd(torch.cat(changes, dim=1).double(), full_matrices=False)
            basis = u[:, s > 1e-4 * s[0]].float()
        spaces.append(basis)
        vectors.append(torch.stack([basis.T @ change for change in changes]))
    whole = [torch.cat([entries[number].flatten() for entries in vectors]) for number in range(len(loras))]
    elected = elect(torch.stack([largest(vector, 0.2) for vector in whole]))
    pieces = torch.split(elected, [entries[0].numel() for entries in vectors])
    theirs = [basis @ piece.view(basis.shape[1], -1) for basis, piece in zip(spaces, pieces, strict=True)]
    return distance(merged(method, loras, density=0.2, trim=trim), theirs)


def factor_deviation() -> float:
    """Return the squared deviation of DARE on A and B, as peft runs it, over that of DARE on the change; density 0.5."""
    lora, rng = random_loras(width=WIDTH, layers=1)[0], torch.Generator().manual_seed(0)
    (name,) = lora.factors
    part, change = lora.part(name), lora.part(name).dense()

    def thin(values: Tensor) -> Tensor:
        return values * (torch.rand(values.shape, generator=rng) < 0.5) / 0.5

    factors = thin(part.up) @ thin(part.down) - change
    ours = merged("dare_linear", [lora], (1.0,))[0] - change
    return float(factors.square().sum() / ours.square().sum())


def elected_dare() -> float:
    """Return the distance of dare_ties from mergekit's election and mean, on the same random selection."""
    loras = random_loras(width=WIDTH, layers=1)
    (name,) = loras[0].factors
    prune = keep_at_random(0.5, Layer(name, 7, (1.0, 1.0), (0, 1)).generator())
    changes = [lora.part(name).dense() for lora in loras]
    # a generator of its own for each LoRA, in order
    thinned = torch.stack([prune([change])(change.clone()) for change in changes])
    return distance(merged("dare_ties", loras), [elect(thinned)])


def pruned_factors() -> float:
    """Return the distance of magnitude_prune from peft's, which prunes A and B and adds the factors."""
    loras = LORAS
    theirs = []
    for name in loras[0].factors:
        parts = [lora.part(name) for lora in loras]
        up, down = (sum(largest(getattr(part, side), 0.5) for part in parts) for side in ("up", "down"))
        theirs.append(up @ down)
    return distance(merged("magnitude_prune", loras), theirs)


def della_shares() -> float:
    """Return the largest difference of the kept share of entries by rank in their row from MagPrune's probability."""
    loras = LORAS[:1]
    change = loras[0].part("unet.0").dense()
    ranks = change.abs().argsort(dim=1).argsort(dim=1)
    kept = merged("della", loras, (1.0,), combine="sum")[0] != 0
    tenths = ranks * 10 // WIDTH
    shares = torch.stack([kept[tenths == tenth].float().mean() for tenth in range(10)])
    return float((shares - (0.35 + 0.3 * (torch.arange(10) + 0.5) / 10)).abs().mean())


def with_header(loras: Sequence[Lora], up: Callable[[Tensor, int], Tensor], **notes: Callable[[int], Any]) -> list[Lora]:
    """Return LoRAs as their trainers leave them: second factors changed, notes in the header."""
    return [
        replace(
            lora,
            factors={name: Factors(part.down, up(part.up, number)) for name, part in lora.factors.items()},
            header={f"evalkit.{key}": json.dumps(value(number)) for key, value in notes.items()},
        )
        for number, lora in enumerate(loras)
    ]


def blocklora_rows() -> float:
    """Return the distance of blocklora from the paper's equations 2 and 4, weights that sum to 1."""
    loras = with_header(
        LORAS,
        lambda up, number: up * (torch.arange(len(up)) % 2 == number)[:, None],
        slot=lambda number: number, slots=lambda number: 2, block_rule=lambda number: "strided",
    )  # fmt: skip
    return distance(merged("blocklora", loras), layerwise(loras, mean))


def orthogonal_inputs() -> float:
    """Return the distance of orthogonal_adaptation from the sum of the changes times 0.6."""
    basis = {"rows": "random", "slot": None, "sha256": {str(WIDTH): "same"}}
    loras = with_header(LORAS, lambda up, number: up, basis=lambda number: basis)
    return distance(merged("orthogonal_adaptation", loras), layerwise(loras, lambda changes: 0.6 * total(changes)))


def random_rows() -> float:
    """Return the relative difference of the squared norm of block_rows from the sum of k times each LoRA's."""
    loras = LORAS
    ours = sum(float(change.square().sum()) for change in merged("block_rows", loras))
    return abs(ours / sum(2 * float(lora.part(name).dense().square().sum()) for lora in loras for name in lora.factors) - 1)


def kept_shares(method: str) -> float:
    """Return the difference of the share of output elements that a LoRA keeps from 1 - p, over a million elements."""
    words = row_words(list(range(2000)), 1, torch.device("cpu"))
    draws = MaskDraws(words, [channel_words("unet.0", 500, number, torch.device("cpu")) for number in range(2)], torch.float32)
    gains = MERGE_METHODS[method].function(draws, [0.5, 0.5])
    return max(abs(float((gain != 0).float().mean()) - 0.5) for gain in gains)


def squared_strength() -> float:
    """Return the relative difference of b_lora from the authors' scale, which multiplies both factors, at weight 0.5."""
    loras = LORAS[:1]
    theirs = [0.25 * change for change in layerwise(loras, total)]
    return distance(theirs, merged("b_lora", loras, (0.5,), blocks=("unet",)))


def plan(loras: Sequence[Lora], steps: int) -> StepPlan:
    """Return the plan of a sampling run in which every LoRA adapts every layer."""
    layers = dict.fromkeys(loras[0].factors, range(len(loras)))
    return StepPlan(steps, range(len(loras)), layers, lambda layer, position: loras[position].part(layer))


def switched() -> float:
    """Return the share of steps at which lora_switch and the authors' callback use different LoRAs, 30 steps, three LoRAs."""
    loras = [*random_loras(width=8, layers=1), *random_loras(width=8, layers=1)][:3]
    (table,) = MERGE_METHODS["lora_switch"].function(plan(loras, 30)).values()
    return sum(int(table[0, t - 1].argmax()) != ((t - 1) % 15) // 5 for t in range(1, 31)) / 30


def composite_passes() -> float:
    """Return the largest difference of lora_composite's passes from one LoRA alone in each."""
    loras = random_loras(width=8, layers=1)
    (table,) = MERGE_METHODS["lora_composite"].function(plan(loras, 3)).values()
    return float((table - torch.eye(2)[:, None]).abs().max())


def chosen(layers: int = 48, **parameters: object) -> float:
    """Return the share of decisions of k_lora that differ from the authors' default, 50 steps, calls of layers in order."""
    loras, steps = random_loras(width=64, layers=layers), 50
    settings = MERGE_METHODS["k_lora"].settings(parameters).model_dump()
    tables = MERGE_METHODS["k_lora"].function(plan(loras, steps), **settings)
    sizes = {name: [lora.part(name).dense().abs().flatten() for lora in loras] for name in loras[0].factors}
    ratios = torch.tensor([float(one.sum() / other.sum()) for one, other in sizes.values()])
    gamma = float(ratios[ratios < 3 * ratios.mean()].mean())
    different = calls = 0
    for step in range(steps):
        for name, pair in sizes.items():
            calls += 1
            scale = (1.5 * (calls % (layers * steps)) / (layers * steps) + 1.275) % 1.5
            subject, style = (float(size.topk(RANK * RANK).values.sum()) for size in pair)
            different += bool(tables[name][0, step, 0]) != (subject / gamma > style * scale)
    return different / calls


def calibrated(method: str, solve: Callable[[list[Tensor], list[Tensor]], Tensor], count: int = 200) -> float:
    """Return the distance of a calibrated merge of one layer from the authors' solution, on correlated inputs."""
    generator, width = torch.Generator().manual_seed(1), 96
    parts = [Factors(torch.randn(8, width, generator=generator), torch.randn(width, 8, generator=generator)) for _ in range(2)]
    card = MERGE_METHODS[method]
    moments, seen = Moments([part.down for part in parts], hidden=card.needs == "hidden"), []
    for number in range(len(parts)):
        turn = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        mixing = torch.diag(1 / torch.arange(1.0, width + 1)) @ turn
        seen.append(torch.randn(count, width, generator=generator) @ mixing)
        moments.add(seen[-1], number)
    ours = card.function(parts, Layer("unet.0", 0, (1.0, 1.0), (0, 1)), moments)
    if method == "ssr":
        stacked = torch.cat([part.down for part in parts]).double()
        up = torch.cat([part.up for part in parts], dim=1).double()
        return distance([ours.dense()], [(up @ solve([stacked], seen) @ stacked).float()])
    return distance([ours.dense()], [solve([part.dense().double() for part in parts], seen).float()])


def zipped() -> float:
    """Return the distance of ziplora's coefficients from those of the unofficial code's loss, for quadratic errors."""
    targets = torch.tensor([[1.3, 0.6, 1.1, 0.8], [0.7, 1.2, 0.9, 1.4]])
    start = torch.ones(2, 4, requires_grad=True)

    def errors(update: int) -> Any:  # noqa: ANN401 - an iterator of tensors
        for number in range(2):
            yield (start[number] - targets[number]).norm()

    ours = MERGE_METHODS["ziplora"].function(ColumnObjective({"unet.a": start}, errors), updates=100)["unet.a"].clone()
    theirs = torch.ones(2, 4, requires_grad=True)
    search = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(100):
        search.zero_grad()
        similarity = (theirs[0] * theirs[1]).abs().mean()
        (sum((theirs[n] - targets[n]).square().mean() for n in range(2)) + 0.01 * similarity).backward()
        search.step()
    return distance([ours], [theirs.detach()])


# One number per method: how far it is from its authors' code, or from the named program's.
DISTANCES: Mapping[str, Callable[[], float]] = {
    "direct": lambda: apart("direct", total),
    **{name: partial(kept_shares, name) for name in ("mc_dropout", "orthogonal_mc_dropout")},
    "svd": lambda: apart("svd", published.svd_of),
    "ties": lambda: over_the_model("ties", rotate=False),
    "dare_linear": factor_deviation,
    "dare_ties": elected_dare,
    "magnitude_prune": pruned_factors,
    "breadcrumbs": lambda: apart("breadcrumbs", published.breadcrumbs_of),
    "della": della_shares,
    "sce": lambda: apart("sce", published.sce_of),
    "knots": lambda: over_the_model("knots", rotate=True),
    "tsv": lambda: apart("tsv", published.tsv_of),
    "iso_c": lambda: apart("iso_c", published.iso_c_of),
    "iso_cts": lambda: apart("iso_cts", published.iso_cts_of),
    "karcher": lambda: apart("karcher", published.karcher_of),
    "np_lora": lambda: apart("np_lora", published.np_lora_of),
    "block_rows": random_rows,
    "b_lora": squared_strength,
    "cat": lambda: apart("cat", total),
    **{name: partial(apart, name, mean) for name in ("fedavg", "mix_of_show")},
    "blocklora": blocklora_rows,
    "orthogonal_adaptation": orthogonal_inputs,
    "lora_switch": switched,
    "lora_composite": composite_passes,
    "k_lora": chosen,
    "gradient_fusion": lambda: distance(fitted(32, solver="lbfgs"), fitted(32)),
    "regmean": lambda: calibrated("regmean", published.regmean_of),
    "ssr": lambda: calibrated("ssr", published.router_of),
    "ziplora": zipped,
}


def main() -> None:
    """Print the table."""
    print("| method | number | difference |\n|---|---|---|")
    for name, number in DISTANCES.items():
        print(f"| `{name}` | {number():.2f} | {MERGE_METHODS[name].difference} |")


if __name__ == "__main__":
    main()
