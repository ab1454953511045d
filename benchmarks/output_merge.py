"""What a merge costs at run time: one SDXL transformer linear (640 -> 640, 4096 tokens), two rank-128 LoRAs, float32, CPU.

Prints, for every way to compute the layer, the median processor time of interleaved rounds, and medians of the rounds' ratios
to the layer without LoRAs, to peft with two active adapters, to the paper's construction, and to the products of matrices alone
that the layer and two outputs beside it take; with `--grow`, how the ratio to the layer grows with LoRAs, rank and tokens.
`python benchmarks/output_merge.py [ROUNDS] [--grow]` (about a minute, or five).
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from generation.lora.factors import Factors, Lora
from generation.merge.apply import Merge
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora
from tests.official_masks import orthogonal_masks

WIDTH, TOKENS, RANK, RATE = 640, 4096, 128, 0.5
LAYER = "unet.to_q"
# LoRAs, rank and tokens, one of them changed at a time.
GROWTH = (
    (2, 128, 4096),
    (1, 128, 4096),
    (4, 128, 4096),
    (8, 128, 4096),
    (2, 8, 4096),
    (2, 32, 4096),
    (2, 128, 1024),
    (2, 128, 77),
)


class Block(nn.Module):
    """A model of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        result: Tensor = self.to_q(x)
        return result


def factors(seed: int, rank: int = RANK) -> Factors:
    """Return random factors of the layer."""
    rng = torch.Generator().manual_seed(seed)
    return Factors(torch.randn(rank, WIDTH, generator=rng) / 25, torch.randn(WIDTH, rank, generator=rng) / 25)


def merged(parts: list[Factors], stack: ExitStack, name: str, **parameters: object) -> Callable[[Tensor], Tensor]:
    """Return the layer under one of our merges, put in as a run puts it in."""
    block = Block()
    pipeline = SimpleNamespace(unet=block, scheduler=SimpleNamespace(order=1))
    state = SamplingState(pipeline)
    loras = [WeightedLora(Lora(Path(), "", {LAYER: part}, {LAYER: 1.0}), 1.0, place) for place, part in enumerate(parts)]
    method = MERGE_METHODS[name]
    stack.enter_context(Merge(method, method.settings(parameters), 0).applied(pipeline, loras, state))
    state.begin([1])
    return block


def with_peft(parts: list[Factors]) -> Callable[[Tensor], Tensor]:
    """Return the layer under peft with all adapters active."""
    block: Any = Block()
    for place, part in enumerate(parts):
        config = LoraConfig(r=part.rank, lora_alpha=part.rank, target_modules=["to_q"])
        block = inject_adapter_in_model(config, block, adapter_name=str(place))
        block.to_q.lora_A[str(place)].weight.data = part.down
        block.to_q.lora_B[str(place)].weight.data = part.up
    block.to_q.set_adapter([str(place) for place in range(len(parts))])
    return block  # type: ignore[no-any-return]


def with_the_paper_s_masks(parts: list[Factors]) -> Callable[[Tensor], Tensor]:
    """Return the layer under the paper's construction: k Bernoulli draws, k masked and scaled outputs."""
    block, rng = Block(), torch.Generator().manual_seed(0)

    def forward(x: Tensor) -> Tensor:
        outputs = [nn.functional.linear(nn.functional.linear(x, part.down), part.up) for part in parts]
        masks = orthogonal_masks(outputs[0].shape, [RATE] * len(parts), rng)
        result = block(x)
        for mask, output in zip(masks, outputs, strict=True):
            result = result + mask * output * (1 / (1 - RATE))
        return result  # type: ignore[no-any-return]

    return forward


def products(parts: list[Factors]) -> Callable[[Tensor], Tensor]:
    """Return the layer and its LoRAs' outputs, each product into memory of its own, neither masked nor added."""
    block, down = Block(), torch.cat([part.down for part in parts]).T
    hidden, outputs = torch.empty(TOKENS, down.shape[1]), torch.empty(TOKENS, WIDTH)

    def forward(x: Tensor) -> Tensor:
        torch.mm(x[0], down, out=hidden)
        for part, inner in zip(parts, torch.split(hidden, RANK, dim=1), strict=True):
            torch.mm(inner, part.up.T, out=outputs)
        result: Tensor = block(x)
        return result

    return forward


def measured(ways: Mapping[str, Callable[[Tensor], Tensor]], x: Tensor, rounds: int) -> dict[str, list[float]]:
    """Return each way's processor seconds, all ways taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for lap in range(rounds + 2):
        for name, way in ways.items():
            start = time.thread_time()
            way(x)
            if lap >= 2:  # the first laps warm up
                seconds[name].append(time.thread_time() - start)
    return seconds


def ratio(one: list[float], other: list[float]) -> str:
    """Return the median of the rounds' ratios."""
    return f"{statistics.median(mine / theirs for mine, theirs in zip(one, other, strict=True)):.2f}"


def grow(rounds: int) -> None:
    """Print what each way costs beside the layer without LoRAs, for more LoRAs, other ranks and fewer tokens."""
    torch.set_num_threads(1)
    names = ("peft", "direct, folded", "direct, as hooks", "orthogonal, official", "orthogonal, channel")
    print("\n| LoRAs | rank | tokens | base, ms | " + " | ".join(f"{name}, x base" for name in names) + " |")
    print("|---" * (len(names) + 4) + "|")
    for count, rank, tokens in GROWTH:
        x = torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(0))
        parts = [factors(seed, rank) for seed in range(count)]
        rate = 1 - 1 / count
        with ExitStack() as stack, torch.no_grad():
            made: tuple[Callable[[Tensor], Tensor], ...] = (
                with_peft(parts),
                merged(parts, stack, "direct"),
                merged(parts, stack, "mc_dropout", p=0, granularity="channel"),
                merged(parts, stack, "orthogonal_mc_dropout", p=rate),
                merged(parts, stack, "orthogonal_mc_dropout", p=rate, granularity="channel"),
            )
            ways: dict[str, Callable[[Tensor], Tensor]] = {"base": Block(), **dict(zip(names, made, strict=True))}
            spent = measured(ways, x, rounds)
        cells = [ratio(spent[name], spent["base"]) for name in names]
        print(
            f"| {count} | {rank} | {tokens} | {1000 * statistics.median(spent['base']):.2f} | {' | '.join(cells)} |", flush=True
        )


def main(rounds: int = 15) -> None:
    """Measure all ways in turn, `rounds` times, and print the table."""
    torch.set_num_threads(1)
    x = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    parts = [factors(1), factors(2)]
    with ExitStack() as stack, torch.no_grad():
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "base layer": Block(),
            "peft, two active adapters": with_peft(parts),
            "the paper's construction": with_the_paper_s_masks(parts),
            "direct, folded": merged(parts, stack, "direct"),
            "direct, as hooks (mc_dropout at p = 0, channel)": merged(parts, stack, "mc_dropout", p=0, granularity="channel"),
            "orthogonal, official (element, forward)": merged(parts, stack, "orthogonal_mc_dropout", p=RATE),
            "orthogonal, channel, forward": merged(parts, stack, "orthogonal_mc_dropout", p=RATE, granularity="channel"),
            "orthogonal, static (folded)": merged(parts, stack, "orthogonal_mc_dropout", p=RATE, preset="static"),
            "products alone, of the layer and two outputs": products(parts),
        }
        spent = measured(ways, x, rounds)
    beside = [list(ways)[place] for place in (0, 1, 2, -1)]
    print(f"torch {torch.__version__}, 1 thread, {rounds} rounds")
    print("| way | ms | x base | x peft | x the paper's | x products |\n|---|---|---|---|---|---|")
    for name, values in spent.items():
        ratios = " | ".join(ratio(values, spent[other]) for other in beside)
        print(f"| {name} | {1000 * statistics.median(values):.1f} | {ratios} |")


if __name__ == "__main__":
    laps = [int(argument) for argument in sys.argv[1:] if argument != "--grow"]
    main(*laps[:1])
    if "--grow" in sys.argv:
        grow(*laps[:1] or [15])
