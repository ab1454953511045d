"""How good tinyworld is: what its models draw and see, read by judges trained on rendered scenes alone.

Prints every figure beside its bar, and draws the contact sheet of docs/tinyworld.md. Takes about 6 minutes on one core.

Run: OMP_NUM_THREADS=1 python benchmarks/tinyworld_quality.py [--weights FOLDER] [--sheet FILE]
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.encoders.dino import DINO, load_dino
from evalkit.io.image_reader import Pixels
from evalkit.weights.lookup import find
from generation.pipeline import load_pipeline, quiet
from generation.seeds import initial_noise
from generation.tinyworld import weights_folder
from generation.tinyworld.concepts import CONCEPTS, REFERENCES
from generation.tinyworld.scene import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_THINGS,
    SHAPES,
    TEXTURES,
    TRAINING_THINGS,
    Scene,
    Thing,
    draw_scene,
    render,
)

Pictures = NDArray[np.uint8]
STEPS, GUIDANCE, BATCH = 20, 4.0, 20
FACTS: Mapping[str, tuple[str, ...]] = {"colour": tuple(COLOURS), "shape": tuple(SHAPES), "texture": tuple(TEXTURES)}
BARS = {"colour": 0.90, "shape": 0.85, "texture": 0.75, "retrieval": 0.90, "nearest concept": 0.85}
PER_CONCEPT = 15


class Reader(nn.Module):
    """A small convolutional net that reads colour, shape and texture of a single object."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out in (24, 48, 96, 96):
            layers += [nn.Conv2d(channels, out, 3, 2, 1), nn.BatchNorm2d(out), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1)]
            layers += [nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * channels, 128), nn.ReLU())
        self.heads = nn.ModuleDict({fact: nn.Linear(128, len(names)) for fact, names in FACTS.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits per fact from n x 3 x 64 x 64 in [-1, 1]."""
        seen = self.body(images)
        return {fact: head(seen) for fact, head in self.heads.items()}


def tensor(images: Pictures) -> Tensor:
    """Return n x 3 x 64 x 64 in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def answers(things: Sequence[Thing]) -> dict[str, Tensor]:
    """Return what the reader should say of each object."""
    return {fact: torch.tensor([names.index(getattr(thing, fact)) for thing in things]) for fact, names in FACTS.items()}


def train_reader(scenes: int = 4000, epochs: int = 6, seed: int = 31) -> Reader:
    """Return a reader trained on rendered training objects: never on a drawn image, never on a held-out combination."""
    rng = np.random.default_rng(seed)
    things = [TRAINING_THINGS[rng.integers(len(TRAINING_THINGS))] for _ in range(scenes)]
    grounds = list(BACKGROUNDS)
    images = np.stack([render(Scene((thing,), grounds[rng.integers(len(grounds))]), rng) for thing in things])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = Reader()
    pixels, truth = tensor(images), answers(things)
    optimizer = torch.optim.AdamW(reader.parameters(), 2e-3)
    steps = epochs * scenes // 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        pick = torch.randint(scenes, (50,), generator=generator)
        batch = pixels[pick]
        if torch.rand((), generator=generator) < 0.5:
            batch = functional.avg_pool2d(batch, 3, 1, 1, count_include_pad=False)
        batch = batch + 0.05 * torch.randn(batch.shape, generator=generator)
        said = reader(batch)
        loss = torch.stack([functional.cross_entropy(said[fact], truth[fact][pick]) for fact in FACTS]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return reader.eval()


def read(reader: Reader, images: Pictures, things: Sequence[Thing]) -> dict[str, float]:
    """Return the share of images of which each fact is read right."""
    with torch.inference_mode():
        said = reader(tensor(images))
    return {fact: float((said[fact].argmax(1) == truth).float().mean()) for fact, truth in answers(things).items()}


def draw(pipeline: Any, prompts: Sequence[str], first_seed: int) -> Pictures:  # noqa: ANN401 - diffusers ships no types
    """Return one image per prompt, each from the noise of its own seed."""
    images = []
    for start in range(0, len(prompts), BATCH):
        batch = list(prompts[start : start + BATCH])
        noise = torch.stack([initial_noise(first_seed + start + place, (4, 16, 16)) for place in range(len(batch))])
        drawn = pipeline(
            prompt=batch, latents=noise, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="np",
            negative_prompt=[""] * len(batch),
        ).images  # fmt: skip
        images.append((drawn * 255).round().astype(np.uint8))
    return np.concatenate(images)


def features(encoder: Any, images: Pictures) -> Tensor:  # noqa: ANN401 - CLIP or DINO
    """Return unit-length features, as evalkit's metrics see the images."""
    batch = torch.stack([encoder.prepare(Pixels(Image.fromarray(image))) for image in images])
    return functional.normalize(torch.from_numpy(encoder.features(batch)), dim=-1)


def retrieval(weights: Path, groups: int = 40, size: int = 16) -> float:
    """Return how often a rendered scene finds its own caption among 16 different ones."""
    encoder = load_clip(find(CLIP, {"clip": weights / "clip"}), "cpu")
    rng = np.random.default_rng(41)
    right = []
    for _ in range(groups):
        scenes: dict[str, Scene] = {}
        while len(scenes) < size:
            scene = draw_scene(rng)
            scenes[scene.caption] = scene
        seen = features(encoder, np.stack([render(scene, rng) for scene in scenes.values()]))
        said = functional.normalize(torch.from_numpy(encoder.texts(list(scenes))), dim=-1)
        right.append((seen @ said.T).argmax(1) == torch.arange(size))
    return float(torch.cat(right).float().mean())


def nearest_concepts(weights: Path) -> tuple[dict[str, float], dict[str, Pictures]]:
    """Return, per concept, how often its LoRA's image is nearest to its own references by mean DINO cosine; and the images."""
    encoder = load_dino(find(DINO, {"dino": weights / "dino"}), "cpu")
    own = torch.stack(
        [features(encoder, np.stack([concept.reference(n) for n in range(REFERENCES)])) for concept in CONCEPTS.values()]
    )
    shares, drawn = {}, {}
    for place, concept in enumerate(CONCEPTS.values()):
        pipeline = load_pipeline(weights / "base")
        with quiet():
            pipeline.load_lora_weights(str(weights / "loras" / f"{concept.name}.safetensors"))
        grounds = list(BACKGROUNDS)
        prompts = [f"{concept.words} on a {grounds[n % len(grounds)]} background" for n in range(PER_CONCEPT)]
        drawn[concept.name] = draw(pipeline, prompts, 1000)
        nearness = torch.einsum("id,crd->icr", features(encoder, drawn[concept.name]), own).mean(-1)
        shares[concept.name] = float((nearness.argmax(1) == place).float().mean())
    return shares, drawn


def sheet(things: Pictures, pairs: Pictures, concepts: Mapping[str, Pictures], path: Path) -> None:
    """Save a sheet of 255 colours: held-out objects, pairs, then per concept five references and seven drawings."""
    rows = [things[:12], things[12:24], pairs[:12]]
    for name, images in concepts.items():
        references = [CONCEPTS[name].reference(number) for number in range(REFERENCES)]
        rows.append(np.concatenate([np.stack(references), images[:7]]))
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).quantize(255).save(path, optimize=True)


def main(weights: Path, path: Path | None) -> None:
    torch.set_num_threads(1)
    console = Console()
    figures: dict[str, float] = {}
    pipeline = load_pipeline(weights / "base")
    rng = np.random.default_rng(51)
    grounds = list(BACKGROUNDS)
    things = [HELD_OUT_THINGS[n % len(HELD_OUT_THINGS)] for n in range(200)]
    prompts = [f"{thing} on a {grounds[rng.integers(len(grounds))]} background" for thing in things]
    drawn = draw(pipeline, prompts, 0)
    reader = train_reader()
    truth = [HELD_OUT_THINGS[rng.integers(len(HELD_OUT_THINGS))] for _ in range(400)]
    rendered = np.stack([render(Scene((thing,), grounds[rng.integers(len(grounds))]), rng) for thing in truth])
    ceiling = read(reader, rendered, truth)
    figures |= read(reader, drawn, things)
    for fact in FACTS:
        console.print(f"{fact}: {figures[fact]:.1%} of 200 drawn (bar {BARS[fact]:.0%}); {ceiling[fact]:.1%} of 400 rendered")
    figures["retrieval"] = retrieval(weights)
    console.print(f"caption retrieval: {figures['retrieval']:.1%} of 640, top-1 of 16 (bar {BARS['retrieval']:.0%})")
    shares, images = nearest_concepts(weights)
    figures["nearest concept"] = float(np.mean(list(shares.values())))
    console.print(f"nearest concept: {figures['nearest concept']:.1%} of {PER_CONCEPT * len(shares)} (bar 85%)")
    console.print(", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    if path is not None:
        pairs = [draw_scene(rng, two=1.0).caption for _ in range(12)]
        sheet(drawn, draw(pipeline, pairs, 2000), images, path)
        console.print(f"pairs on the sheet: {'; '.join(pairs)}")
    missed = [name for name, bar in BARS.items() if figures[name] < bar]
    console.print(f"below the bar: {', '.join(missed)}" if missed else "every bar is reached")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=weights_folder())
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    main(options.weights, options.sheet)
