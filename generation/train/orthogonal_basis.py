"""Orthogonal Adaptation's shared basis: orthonormal directions of inputs, the same to the bit on every machine.

Po et al. 2024 (arXiv 2312.02432): the first factor of a LoRA is frozen to some rows of one orthogonal matrix per
width of input. Ours is the cosine transform (DCT-II) with the signs of its columns flipped by a hash, so that no row is plain
low frequency. Its cosines come from whole-number arithmetic, since libraries round theirs in different ways.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from generation.seeds import derived

# Cosines are computed as whole numbers of 2^-200; what the recurrence loses stays far below the 53 bits that are kept.
BITS = 200
ONE = 1 << BITS


def slot_rows(slot: int, rank: int, inputs: int) -> list[int]:
    """Return the rows that belong to a slot and to no other.

    Raises:
        ValueError: the basis has fewer slots; the message states how many.
    """
    if (slot + 1) * rank > inputs:
        raise ValueError(
            f"{inputs} inputs have room for {inputs // rank} slots of rank {rank}, counted from 0; slot {slot} does not exist"
        )
    return list(range(slot * rank, (slot + 1) * rank))


def random_rows(concept: str, rank: int, inputs: int) -> list[int]:
    """Return `rank` different rows that depend on the concept's name and the width alone; two concepts' may overlap by chance.

    Raises:
        ValueError: there are fewer rows than `rank`.
    """
    if rank > inputs:
        raise ValueError(f"{inputs} inputs have fewer than {rank} rows; lower the rank")
    generator = Generator("cpu").manual_seed(derived("basis", concept, inputs))
    return sorted(torch.randperm(inputs, generator=generator)[:rank].tolist())


def basis_rows(inputs: int, rows: Sequence[int]) -> Tensor:
    """Return these rows of the basis, float32 [len(rows), inputs], of unit length."""
    quarter, signs = _quarter(inputs), _signs(inputs)
    angle = (2 * np.arange(inputs) + 1)[None] * np.asarray(rows)[:, None] % (4 * inputs)
    angle = np.minimum(angle, 4 * inputs - angle)
    cosine = np.where(angle > inputs, -quarter[np.minimum(2 * inputs - angle, inputs)], quarter[np.minimum(angle, inputs)])
    length = np.array([math.sqrt((1 if row == 0 else 2) / inputs) for row in rows])
    return torch.from_numpy((cosine * length[:, None] * signs).astype(np.float32))


def basis_sha256(inputs: int) -> str:
    """Return the sha256 of the cosines and signs that the basis of this width is made of."""
    return hashlib.sha256(_quarter(inputs).astype("<f8").tobytes() + _signs(inputs).astype("<i1").tobytes()).hexdigest()


@lru_cache(maxsize=32)
def _quarter(inputs: int) -> npt.NDArray[np.float64]:
    """Return cos(pi m / (2 inputs)) for m = 0 .. inputs, each correctly rounded."""
    first = _cosine(_pi() // (2 * inputs))
    values = [ONE, first]
    for _ in range(inputs - 1):
        values.append((2 * first * values[-1] >> BITS) - values[-2])
    # a quotient of whole numbers is rounded correctly in Python; the last cosine is zero but for the recurrence's rounding
    return np.array([value / ONE for value in values[:-1]] + [0.0])


def _pi() -> int:
    """Return pi by Machin's formula: 16 atan(1/5) - 4 atan(1/239)."""

    def arc_tangent(inverse: int) -> int:
        term, total, odd = ONE // inverse, 0, 1
        while term:
            total += term // odd if odd % 4 == 1 else -(term // odd)
            term //= inverse * inverse
            odd += 2
        return total

    return 16 * arc_tangent(5) - 4 * arc_tangent(239)


def _cosine(angle: int) -> int:
    """Return a cosine by its Taylor series; `angle` in whole numbers of 2^-200, between 0 and 2."""
    term, total, order = ONE, 0, 0
    while term:
        total += term
        order += 2
        term = -(term * angle >> BITS) * angle // (order * (order - 1)) >> BITS
        if abs(term) <= 1:
            break
    return total


@lru_cache(maxsize=32)
def _signs(inputs: int) -> npt.NDArray[np.int8]:
    blocks = [hashlib.sha256(f"evalkit basis {inputs} {block}".encode()).digest() for block in range(-(-inputs // 256))]
    bits = np.unpackbits(np.frombuffer(b"".join(blocks), np.uint8))[:inputs]
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)
