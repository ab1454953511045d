"""Weight changes of LyCORIS and peft adapters other than plain LoRA: equations on tensors.

Every function returns the change of a weight W [outputs, inputs(, height, width)] at full strength. Equations match the
forward passes of lycoris-lora 4.1.3 (LoHa, LoKr, LoCon, DoRA, diagonal OFT, IA3) and peft 0.21 (DoRA, OFT, IA3); tests hold
them to both.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def tucker_down(mid: Tensor, down: Tensor) -> Tensor:
    """Return the first factor [rank, inputs, height, width] of a LoCon in Tucker form; `up` stays the second one.

    `mid` is [rank, rank, height, width], `down` [rank, inputs(, 1, 1)].
    """
    return torch.einsum("mnkl,nj->mjkl", mid, down.flatten(1))


def fitted(change: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a change in the shape of the weight, [outputs, inputs(, height, width)].

    A convolution's change may be flat, [outputs, inputs * height * width], and a matrix may be a 1x1 convolution.

    Raises:
        ValueError: the change has another shape, though perhaps as many entries.
    """
    whole = tuple(shape)
    if tuple(change.shape) not in (whole, (whole[0], math.prod(whole[1:])), (*whole, 1, 1)):
        raise ValueError(f"a change of shape {list(change.shape)} for a weight of shape {list(whole)}")
    return change.reshape(whole)


def loha(w1: tuple[Tensor, Tensor], w2: tuple[Tensor, Tensor], shape: Sequence[int]) -> Tensor:
    """Return (w1_a w1_b) * (w2_a w2_b), elementwise (Hyeon-Woo et al. 2022, arXiv 2108.06098)."""
    return fitted((w1[0] @ w1[1]) * (w2[0] @ w2[1]), shape)


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return sum_ij core[i, j] a[i, p] b[j, r], [outputs, inputs, height, width]; a is [rank, outputs], b [rank, inputs]."""
    return torch.einsum("ijkl,ip,jr->prkl", core, a, b)


def lokr(w1: Tensor, w2: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the Kronecker product of w1 and w2 in the shape of the weight (Yeh et al. 2024, arXiv 2309.14859)."""
    if w2.dim() == 4:
        w1 = w1[:, :, None, None]
    return fitted(torch.kron(w1, w2.contiguous()), shape)


def dora(weight: Tensor, change: Tensor, magnitude: Tensor, *, outputs: bool) -> Tensor:
    """Return V m / |V| - W with V = W + change (Liu et al. 2024, arXiv 2402.09353).

    The norm is taken per output channel, or per input channel unless `outputs`, over all other axes.
    """
    moved = weight + change
    axis = 0 if outputs else 1
    others = [number for number in range(moved.dim()) if number != axis]
    norm: Tensor = torch.linalg.vector_norm(moved, dim=others, keepdim=True)
    return moved * (magnitude.reshape(norm.shape) / norm) - weight


def diagonal_oft(weight: Tensor, blocks: Tensor, constraint: float | None, rescale: Tensor | None) -> Tensor:
    """Return R^T W - W on blocks of output rows, R = (I + Q)(I - Q)^-1, Q = q - q^T (Qiu et al. 2023, arXiv 2306.07280).

    `blocks` is q, [blocks, size, size]. With a `constraint` c, Q is scaled so that its norm over all blocks is at most
    c * outputs, as in kohya's sd-scripts and LyCORIS. `rescale` multiplies the output rows of the result.
    """
    skew = blocks - blocks.transpose(1, 2)
    if constraint is not None:
        norm = torch.linalg.vector_norm(skew)
        skew = skew * (torch.clamp(norm, max=constraint * weight.shape[0]) / torch.clamp(norm, min=1e-12))
    identity = torch.eye(blocks.shape[1], dtype=blocks.dtype)
    rotation = (identity + skew) @ torch.linalg.inv(identity - skew)
    rows = weight.reshape(blocks.shape[0], blocks.shape[1], -1)
    turned = torch.einsum("knm,kn...->km...", rotation, rows).reshape(weight.shape)
    if rescale is not None:
        turned = turned * rescale.reshape(-1, *[1] * (weight.dim() - 1))
    return turned - weight


def peft_oft(weight: Tensor, triangles: Tensor, *, series: int | None) -> Tensor:
    """Return W R^T - W on blocks of inputs, as peft applies OFT.

    `triangles` is [blocks, size (size - 1) / 2], the upper triangles of Q. R is the Cayley transform (I - Q)(I + Q)^-1, or,
    with `series` terms, peft's truncated Neumann series of the inverse rotation (its default, 5).
    """
    count = triangles.shape[1]
    size = round((1 + (1 + 8 * count) ** 0.5) / 2)
    rows, columns = torch.triu_indices(size, size, 1)
    skew = triangles.new_zeros(triangles.shape[0], size, size)
    skew[:, rows, columns] = triangles
    skew = skew - skew.transpose(1, 2)
    identity = torch.eye(size, dtype=triangles.dtype).expand_as(skew)
    if series is None:
        rotation = torch.linalg.solve(identity + skew, identity - skew, left=False)
    else:
        rotation, power = identity.clone(), skew
        for term in range(1, series):
            rotation = rotation + (2 if term < series - 1 or series == 2 else 1) * power
            power = power @ skew
    inputs = weight.flatten(1)
    blocks = inputs.shape[1] // size
    turned = torch.einsum("okc,krc->okr", inputs.reshape(len(inputs), blocks, size), rotation.expand(blocks, size, size))
    return turned.reshape(weight.shape) - weight


def ia3(weight: Tensor, factors: Tensor, *, on_input: bool) -> Tensor:
    """Return W * factors along inputs or outputs (Liu et al. 2022, arXiv 2205.05638); a factor of 0 changes nothing."""
    shape = [1] * weight.dim()
    shape[1 if on_input else 0] = -1
    return weight * factors.reshape(shape)
