"""Train tinyworld's two judges: a CLIP in open_clip's format, and a ViT without labels (DINO) in timm's."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from generation.tinyworld.pools import Model, Pool, to_tensor
from generation.tinyworld.train_text import contrastive
from generation.tinyworld.words import MAX_TOKENS, write_tokenizer

MEAN = STD = [0.5, 0.5, 0.5]
CLIP_WIDTH, DINO_WIDTH, DINO_OUTPUTS, POINT = 96, 128, 192, 64


def spend(minutes: float, optimizer: torch.optim.Optimizer, peak: float, warmup: int = 50) -> Iterator[float]:
    """Yield the share of `minutes` that is spent, until it is 1; the learning rate rises, then falls as a cosine of it."""
    start, step = time.monotonic(), 0
    while (spent := (time.monotonic() - start) / (60 * minutes)) < 1:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, step / warmup) * (1 + math.cos(math.pi * spent)) / 2
        yield spent


def clip_config(words: int, pad: int, end: int) -> dict[str, Any]:
    """Return open_clip's description of a CLIP for 64 px images and tinyworld's vocabulary."""
    vision = {"image_size": 64, "layers": 4, "width": CLIP_WIDTH, "head_width": 32, "patch_size": 8}
    text = {
        "context_length": MAX_TOKENS,
        "vocab_size": words,
        "hf_tokenizer_name": "tinyworld",
        "tokenizer_kwargs": {"clean_up_tokenization_spaces": False},
        "width": CLIP_WIDTH,
        "heads": 4,
        "layers": 3,
        "pool_type": "argmax",
        "pad_id": pad,
        "eos_id": end,
    }
    return {
        "model_cfg": {"embed_dim": CLIP_WIDTH, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images in [-1, 1] with slightly different light, tint and noise, so that generated images look familiar."""
    gain = 1 + 0.2 * (torch.rand(len(images), 1, 1, 1, generator=generator) - 0.5)
    shift = 0.2 * (torch.rand(len(images), 3, 1, 1, generator=generator) - 0.5)
    noise = 0.05 * torch.rand(len(images), 1, 1, 1, generator=generator) * torch.randn(images.shape, generator=generator)
    return images * gain + shift + noise


def train_clip(pool: Pool, out: Path, minutes: float, say: Callable[[str], None], batch: int = 96, seed: int = 7) -> float:
    """Train the CLIP that scores, unlike the pipeline's in seed, shape and data order; return its last in-batch top-1."""
    import open_clip
    from safetensors.torch import save_file

    folder = out / "clip"
    write_tokenizer(folder)
    tokenizer: Model = open_clip.tokenizer.HFTokenizer(str(folder), context_length=MAX_TOKENS)
    words = tokenizer.tokenizer
    config = clip_config(len(words), words.pad_token_id, words.eos_token_id)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: Model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=0.02)
    images, ids = to_tensor(pool.images), tokenizer(list(pool.captions))
    generator = torch.Generator().manual_seed(seed)
    top = 0.0
    for step, spent in enumerate(spend(minutes, optimizer, 1.2e-3)):
        pick = torch.randint(len(pool), (batch,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            image_features, text_features = (
                net.encode_image(jitter(images[pick], generator)).float(),
                net.encode_text(ids[pick]).float(),
            )
        loss = contrastive(image_features, text_features, net.logit_scale)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            likeness = functional.normalize(image_features, dim=-1) @ functional.normalize(text_features, dim=-1).T
            top = 0.97 * top + 0.03 * float((likeness.argmax(1) == torch.arange(batch)).float().mean())
        if step % 50 == 0:
            say(f"clip step {step}: top-1 of {batch}: {top:.3f}, {spent:.0%} of the time")
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    return top


def other_grounds(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with what has the colour of their corner in a random one, edges blended.

    Without this the background, which every view shares, is all that self-distillation learns here.
    """
    corner = images[:, :, :1, :1]
    solid = ((images - corner).abs().amax(1, keepdim=True) / 0.3).clamp(0, 1)
    return solid * images + (1 - solid) * (2 * torch.rand(corner.shape, generator=generator) - 1)


def other_hues(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with their colour channels in another order, one order for all: new objects, made from known ones."""
    return images[:, torch.randperm(3, generator=generator)]


def views(images: Tensor, count: int, side: int, smallest: float, generator: torch.Generator) -> list[Tensor]:
    """Return `count` random crops of each image, covering `smallest` to all of its side, resized to `side` pixels.

    Each is mirrored half of the time, on a different ground, softer, in slightly other light, but never in another hue:
    colour is part of what a concept is.
    """
    crops = []
    for _ in range(count):
        n = len(images)
        scale = smallest + (1.15 - smallest) * torch.rand(n, generator=generator)
        room = (1 - scale).abs()[:, None]
        centre = room * (2 * torch.rand(n, 2, generator=generator) - 1)
        mirror = 1 - 2 * (torch.rand(n, generator=generator) < 0.5).float()
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * mirror, scale, centre
        grid = functional.affine_grid(theta, [n, 3, side, side], align_corners=False)
        shown = other_grounds(images, generator)
        soft = functional.avg_pool2d(shown, 3, 1, 1, count_include_pad=False)
        shown = torch.lerp(shown, soft, torch.rand(n, 1, 1, 1, generator=generator))
        crops.append(jitter(functional.grid_sample(shown, grid, padding_mode="border", align_corners=False), generator))
    return crops


class Head(nn.Module):
    """DINO's projection head: an MLP to a bottleneck, then unit-length prototypes (Caron 2021, section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, POINT))
        self.prototypes = nn.Parameter(torch.randn(DINO_OUTPUTS, POINT) * 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the unit-length bottleneck and its cosines to the prototypes: n x (64 + outputs)."""
        point = functional.normalize(self.bottleneck(features).float(), dim=-1)
        return torch.cat([point, point @ functional.normalize(self.prototypes, dim=-1).T], dim=-1)


DINO_ARGS: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 8,
    "embed_dim": DINO_WIDTH,
    "depth": 4,
    "num_heads": 4,
    "num_classes": 0,
    "dynamic_img_size": True,
}


def balanced(cosines: Tensor, warmth: float, rounds: int = 3) -> Tensor:
    """Return the teacher's targets: shares of the prototypes per row, with every prototype used as much over the batch.

    Sinkhorn-Knopp in place of the running centre (Caron 2020; Oquab 2023, section 4): it can't collapse, and learns sooner.
    """
    shares = ((cosines - cosines.max()) / warmth).exp()
    for _ in range(rounds):
        shares = shares / shares.sum(0, keepdim=True).clamp_min(1e-8)
        shares = shares / shares.sum(1, keepdim=True)
    return shares


def self_distillation(student: list[Tensor], teacher: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return two means over every student view and every other teacher view of the same images.

    The first is the cross entropy between shares of the prototypes (Caron 2021, equation 3). The second tells which image of
    the batch a view shows (Chen 2021, MoCo v3, algorithm 1): alone, the first takes hours to find anything in views that
    share no ground.
    """
    own = torch.arange(len(student[0]))
    targets = balanced(torch.cat(teacher)[:, POINT:], 0.05).chunk(len(teacher))
    shares, matches = [], []
    for t, wanted in enumerate(targets):
        for s, guess in enumerate(student):
            if s != t:
                shares.append(-(wanted * (guess[:, POINT:] / 0.1).log_softmax(-1)).sum(-1).mean())
                matches.append(functional.cross_entropy(guess[:, :POINT] @ teacher[t][:, :POINT].T / 0.12, own))
    return torch.stack(shares).mean(), torch.stack(matches).mean()


def train_dino(
    pictures: NDArray[np.uint8], out: Path, minutes: float, say: Callable[[str], None], batch: int = 48, seed: int = 8
) -> None:
    """Train a ViT by self-distillation, two global and two local views per image, and write the teacher's weights.

    Resumes from `out`/dino if it exists, with a new head and at half the rate.
    """
    import timm
    from safetensors.torch import load_file, save_file

    folder = out / "dino"
    known = load_file(folder / "model.safetensors") if folder.is_dir() else None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: Model = timm.create_model("vit_small_patch8_224", pretrained=False, **DINO_ARGS)
        student = nn.ModuleDict({"net": net, "head": Head(DINO_WIDTH)})
    if known is not None:
        student["net"].load_state_dict(known)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.0, weight_decay=0.04)
    images = to_tensor(pictures)
    generator = torch.Generator().manual_seed(seed)
    running, match = math.log(DINO_OUTPUTS), math.log(batch)
    for step, spent in enumerate(spend(minutes, optimizer, 1e-3 if known is None else 5e-4, warmup=100)):
        chosen = images[torch.randint(len(images), (batch,), generator=generator)]
        chosen = torch.cat([chosen[: batch // 2], other_hues(chosen[batch // 2 :], generator)])
        wide, narrow = views(chosen, 2, 64, 0.6, generator), views(chosen, 2, 32, 0.4, generator)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                targets = teacher["head"](teacher["net"](torch.cat(wide))).float().chunk(2)
            guesses = [student["head"](student["net"](torch.cat(part))).float().chunk(len(part)) for part in (wide, narrow)]
        shares, matches = self_distillation([*guesses[0], *guesses[1]], list(targets))
        loss = shares + matches
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            keep = 1 - 0.01 * (1 + math.cos(math.pi * spent)) / 2
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - keep)
        running = 0.97 * running + 0.03 * float(shares.detach())
        match = 0.97 * match + 0.03 * float(matches.detach())
        if step % 50 == 0:
            say(f"dino step {step}: shares {running:.3f}, matches {match:.3f}, {spent:.0%} of the time")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in teacher["net"].state_dict().items()}, folder / "model.safetensors")
    config = {
        "architecture": "vit_small_patch8_224",
        "num_classes": 0,
        "num_features": DINO_WIDTH,
        "model_args": DINO_ARGS,
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "mean": MEAN,
            "std": STD,
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
