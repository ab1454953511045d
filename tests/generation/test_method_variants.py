"""Variants of merge methods as their authors, peft and mergekit run them."""

from pathlib import Path

import pytest
import torch
from peft.utils.merge_utils import ties as peft_ties

from generation.lora.factors import Factors, Lora
from generation.merge.calibration import Moments
from generation.merge.elementwise import model_bound
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS
from tests.merging import close, lora_parts

WEIGHTS = (0.5, 1.0, 1.5)
PARTS = lora_parts((3, 5, 2))


def lora(number: int, layers: dict[str, Factors]) -> Lora:
    return Lora(Path(f"{number}.safetensors"), str(number), layers, dict.fromkeys(layers, 1.0))


def weighted_layer() -> tuple[list[Factors], Layer]:
    """Return factors multiplied by their weights, and the layer that states them."""
    loras = {number: lora(number, {"unet.a": part}) for number, part in enumerate(PARTS)}
    parts = [Factors(part.down, part.up * weight) for part, weight in zip(PARTS, WEIGHTS, strict=True)]
    return parts, Layer("unet.a", 0, WEIGHTS, range(3), loras)


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 1.0])
def test_the_bound_of_a_whole_model_is_the_order_statistic(density: float) -> None:
    layers = {f"unet.{number}": part for number, part in enumerate(lora_parts((3, 5, 2, 4), seed=3))}
    sizes = torch.cat([(part.up @ part.down).abs().flatten() for part in layers.values()]).sort(descending=True).values
    bound = model_bound(lora(0, layers), density)
    assert bound == float(sizes[max(1, round(density * len(sizes))) - 1])


def test_trimming_over_the_model_keeps_more_in_strong_layers() -> None:
    strong, weak = PARTS[0], Factors(PARTS[0].down, PARTS[0].up / 10)
    whole = lora(0, {"unet.a": strong, "unet.b": weak})
    kept = {}
    for name, part in (("unet.a", strong), ("unet.b", weak)):
        layer = Layer(name, 0, (1.0,), (0,), {0: whole})
        kept[name] = MERGE_METHODS["magnitude_prune"].function([part], layer, density=0.2, trim="model")
        assert close(MERGE_METHODS["ties"].function([part], layer, density=0.2, trim="model"), kept[name])
    shares = {name: float((change != 0).float().mean()) for name, change in kept.items()}
    assert shares["unet.a"] > 0.35
    assert shares["unet.b"] < 0.02
    assert sum(shares.values()) / 2 == pytest.approx(0.2, abs=0.01)


def test_trimming_over_the_model_needs_dense_entries() -> None:
    method = MERGE_METHODS["ties"]
    assert method.check is not None
    with pytest.raises(ValueError, match=r'trim = "model" compares entries of weights; it needs space = "dense"'):
        method.check(2, method.settings({"trim": "model", "space": "core"}))


def test_equal_votes_are_peft_s_ties() -> None:
    parts, layer = weighted_layer()
    changes = [part.dense() for part in PARTS]
    expected = peft_ties([change.clone() for change in changes], torch.tensor(WEIGHTS), density=0.4)
    ours = MERGE_METHODS["ties"].function(parts, layer, density=0.4, vote="equal")
    assert close(ours, expected)
    assert not close(MERGE_METHODS["ties"].function(parts, layer, density=0.4), expected)


def test_a_mean_by_weights_is_mergekit_s_ties() -> None:
    parts, layer = weighted_layer()
    stack = torch.stack([part.dense() for part in PARTS])
    for change in stack:
        smallest = change.abs().flatten().sort().values[change.numel() - round(0.4 * change.numel())]
        change[change.abs() < smallest] = 0
    weights = torch.tensor(WEIGHTS)[:, None, None]
    signs = torch.where((weights * stack).sum(0) < 0, -1.0, 1.0)
    agree = (stack.sign() == signs).float()
    share = (weights * agree).sum(0)
    expected = (weights * stack * agree).sum(0) / torch.where(share == 0, 1.0, share)
    assert close(MERGE_METHODS["ties"].function(parts, layer, density=0.4, mean="weights"), expected)


@pytest.mark.parametrize("method", ["gradient_fusion", "regmean", "ssr"])
def test_a_layer_of_one_lora_may_be_passed_through(method: str) -> None:
    part, found = PARTS[0], MERGE_METHODS[method]
    generator = torch.Generator().manual_seed(0)
    moments = Moments([part.down], hidden=found.needs == "hidden")
    moments.add(torch.randn(50, part.down.shape[1], generator=generator), 0)
    moments.add(torch.randn(50, part.down.shape[1], generator=generator), None)
    layer = Layer("unet.a", 0, (1.0, 1.0), (0,))
    fitted = found.function([part], layer, moments)
    moments = Moments([part.down], hidden=found.needs == "hidden")
    assert found.function([part], layer, moments, alone="keep") is part
    assert float(fitted.dense().norm() / part.dense().norm()) < 0.95


def test_tsv_in_dense_space_is_the_authors_equation() -> None:
    """Stack the first min(outputs, inputs) / k singular vectors of every dense change; replace both stacks by polar factors."""
    layer, changes = (
        Layer("unet.a", 0, (1.0,) * len(PARTS), range(len(PARTS))),
        [part.up.double() @ part.down.double() for part in PARTS],
    )
    triples = [torch.linalg.svd(change, full_matrices=False) for change in changes]
    count = min(changes[0].shape) // len(changes)
    u = torch.cat([left[:, :count] for left, _, _ in triples], dim=1)
    s = torch.cat([values[:count] for _, values, _ in triples])
    v = torch.cat([right[:count] for _, _, right in triples])
    polar = [left @ right for left, _, right in (torch.linalg.svd(stack, full_matrices=False) for stack in (u, v))]
    expected = polar[0] @ torch.diag(s) @ polar[1]
    dense = MERGE_METHODS["tsv"].function(PARTS, layer, space="dense").dense()
    assert close(dense, expected.float(), atol=1e-4)
    assert float((dense - MERGE_METHODS["tsv"].function(PARTS, layer).dense()).norm() / dense.norm()) > 0.05
