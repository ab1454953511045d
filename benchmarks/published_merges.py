"""Equations of published merge code on dense changes of weights, for comparisons with ours."""

from collections.abc import Sequence

import torch
from torch import Tensor

RANK = 16


def total(changes: Sequence[Tensor]) -> Tensor:
    """Return the sum."""
    return torch.stack(list(changes)).sum(0)


def mean(changes: Sequence[Tensor]) -> Tensor:
    """Return the mean."""
    return torch.stack(list(changes)).mean(0)


def elect(stack: Tensor) -> Tensor:
    """Return the disjoint mean of TIES over the first dimension."""
    agree = stack.sign() == torch.where(stack.sum(0) < 0, -1.0, 1.0)
    return (stack * agree).sum(0) / agree.sum(0).clamp(min=1)


def largest(values: Tensor, density: float) -> Tensor:
    """Return values with all but the share `density` of the largest set to 0."""
    bound = values.abs().flatten().kthvalue(values.numel() - int(density * values.numel()) + 1).values
    return values * (values.abs() >= bound)


def breadcrumbs_of(changes: list[Tensor]) -> Tensor:
    """Return mergekit's Model Breadcrumbs at density 0.9 and gamma 0.01."""
    result = torch.zeros_like(changes[0])
    for change in changes:
        order = change.abs().flatten().argsort()
        top, kept = round(0.01 * len(order)), round(0.9 * len(order))
        chosen = order[len(order) - top - kept : len(order) - top]
        result.view(-1)[chosen] += change.flatten()[chosen]
    return result


def sce_of(changes: list[Tensor]) -> Tensor:
    """Return mergekit's SCE at density 1."""
    stack = torch.stack(changes)
    energy = stack.square().mean((1, 2))
    weights = energy / energy.sum()
    agree = weights[:, None, None] * (stack.sign() == torch.where(stack.sum(0) < 0, -1.0, 1.0))
    return (agree * stack).sum(0) / agree.sum(0).clamp(min=1e-6)


def polar(stack: Tensor) -> Tensor:
    """Return the polar factor of a matrix."""
    u, _, vt = torch.linalg.svd(stack, full_matrices=False)
    return u @ vt


def tsv_of(changes: list[Tensor]) -> Tensor:
    """Return TSV-M on dense changes."""
    triples = [torch.linalg.svd(change, full_matrices=False) for change in changes]
    count = min(changes[0].shape) // len(changes)
    u = torch.cat([left[:, :count] for left, _, _ in triples], dim=1)
    s = torch.cat([values[:count] for _, values, _ in triples])
    v = torch.cat([right[:count] for _, _, right in triples])
    return polar(u) @ torch.diag(s) @ polar(v)


def iso_c_of(changes: list[Tensor]) -> Tensor:
    """Return Iso-C with the mean over all singular values of a layer, zeros included."""
    u, s, vt = torch.linalg.svd(total(changes), full_matrices=False)
    return s.mean() * u @ vt


def iso_cts_of(changes: list[Tensor]) -> Tensor:
    """Return Iso-CTS with directions counted over the layer's whole width."""
    width = min(changes[0].shape)
    common = width - round((width - 0.8 * width) / len(changes)) * len(changes)
    own = (width - common) // len(changes)
    u, s, vt = torch.linalg.svd(total(changes), full_matrices=False)
    lefts, values, rights = [u[:, :common]], [s[:common]], [vt[:common]]
    for change in changes:
        left, single, right = torch.linalg.svd(change - u[:, :common] @ (u[:, :common].T @ change), full_matrices=False)
        lefts, values, rights = [*lefts, left[:, :own]], [*values, single[:own]], [*rights, right[:own]]
    return torch.cat(values).mean() * polar(torch.cat(lefts, dim=1)) @ polar(torch.cat(rights))


def karcher_of(changes: list[Tensor]) -> Tensor:
    """Return the change that the Karcher mean of whole weights makes, the base's norm 20 times that of the changes."""
    base = torch.randn(changes[0].shape, generator=torch.Generator().manual_seed(5))
    base = base * (20 * mean(changes).norm() / base.norm())
    weights = [(base + change).double() for change in changes]
    units = [weight / weight.norm() for weight in weights]
    centre = mean(units) / mean(units).norm()
    for _ in range(20):
        angles = [(unit * centre).sum().clamp(-1, 1).acos() for unit in units]
        steps = [a / a.sin() * (unit - a.cos() * centre) for a, unit in zip(angles, units, strict=True)]
        step = mean(steps)
        size = step.norm()
        centre = centre * size.cos() + step * (size.sin() / size.clamp(min=1e-15))
    return (centre * torch.stack([weight.norm() for weight in weights]).mean() - base).float()


def np_lora_of(changes: list[Tensor]) -> Tensor:
    """Return the paper's soft projection at mu = 0.5, from the SVD of the dense style."""
    v = torch.linalg.svd(changes[1], full_matrices=False)[2][:RANK].T
    return changes[1] + changes[0] - changes[0] @ v @ v.T / 3


def regmean_of(changes: list[Tensor], seen: list[Tensor]) -> Tensor:
    """Return RegMean with off-diagonal entries times 0.9 and no ridge."""
    grams = [x.double().T @ x.double() for x in seen]
    grams = [0.9 * gram + 0.1 * gram.diagonal().diag() for gram in grams]
    return total([change @ gram for change, gram in zip(changes, grams, strict=True)]) @ torch.linalg.inv(total(grams))


def router_of(stacked: list[Tensor], seen: list[Tensor]) -> Tensor:
    """Return SSR's router with its absolute ridge of 1e-4 on mean second moments."""
    hidden = [x.double() @ stacked[0].T for x in seen]
    rank, count = len(stacked[0]), sum(len(z) for z in hidden)
    gram = total([z.T @ z for z in hidden]) / count + 1e-4 * torch.eye(rank, dtype=torch.float64)
    own = torch.zeros(rank, rank, dtype=torch.float64)
    for number, z in enumerate(hidden):
        rows = slice(number * rank // 2, (number + 1) * rank // 2)
        own[rows] += z[:, rows].T @ z / count
    return torch.linalg.solve(gram, own.T).T


def svd_of(changes: list[Tensor]) -> Tensor:
    """Return peft's truncated SVD of the sum at the largest rank."""
    u, s, vt = torch.linalg.svd(total(changes), full_matrices=False)
    return u[:, :RANK] @ torch.diag(s[:RANK]) @ vt[:RANK]
