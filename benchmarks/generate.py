"""What `evalkit generate` costs beside the loop a person would write: the same images of one arm, tinyworld, one thread, CPU.

The loop loads the pipeline, fuses the same LoRAs with diffusers, draws the same noise in the same batches and saves PNGs. Both
sides include loading. Prints medians of interleaved rounds. Run alone on a machine: `python benchmarks/generate.py`.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from generation.experiment import Experiment, find_experiment
from generation.experiment_file import read_experiment
from generation.pipeline import load_pipeline, quiet
from generation.run import generate
from generation.seeds import initial_noise, step_generator
from generation.tinyworld import weights_folder

BATCH, SEEDS = 8, 16


def one_arm() -> tuple[Experiment, Path]:
    """Return tinyworld's experiment cut to its first case and the arm `direct`, and its folder."""
    path, folder = find_experiment("tinyworld")
    whole = read_experiment(path, folder)
    case = whole.cases[0].model_copy(update={"seeds": tuple(range(SEEDS))})
    arm = next(arm for arm in whole.arms if arm.label == "direct")
    return whole.model_copy(update={"cases": (case,), "arms": (arm,)}), folder


def by_hand(experiment: Experiment, out: Path) -> None:
    """Draw the arm with diffusers alone."""
    case, sampling = experiment.cases[0], experiment.sampling
    pipeline = load_pipeline(weights_folder() / "base")
    with quiet():
        for name in case.concepts:
            pipeline.load_lora_weights(str(weights_folder() / "loras" / f"{name}.safetensors"), adapter_name=name)
        pipeline.set_adapters(list(case.concepts), [1.0] * len(case.concepts))
        pipeline.fuse_lora(adapter_names=list(case.concepts))
        pipeline.unload_lora_weights()
        for start in range(0, SEEDS, BATCH):
            seeds = case.seeds[start : start + BATCH]
            images = pipeline(
                prompt=[case.prompt] * len(seeds),
                negative_prompt=[case.negative_prompt or ""] * len(seeds),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                latents=torch.stack([initial_noise(seed, (4, 16, 16)) for seed in seeds]),
                generator=[step_generator(seed) for seed in seeds],
                output_type="np",
            ).images
            for seed, image in zip(seeds, images, strict=True):
                Image.fromarray((image * 255).round().astype("uint8")).save(out / f"{seed}.png")


def main(rounds: int = 5) -> None:
    """Measure both sides in turn, `rounds` times, and print the table."""
    torch.set_num_threads(1)
    experiment, folder = one_arm()
    seconds: dict[str, list[float]] = {"a loop by hand": [], "evalkit generate": []}
    for lap in range(rounds + 1):
        with tempfile.TemporaryDirectory() as name:
            start = time.perf_counter()
            by_hand(experiment, Path(name))
            middle = time.perf_counter()
            generate(experiment, Path(name) / "run", folder, device="cpu", batch_size=BATCH)
            end = time.perf_counter()
        if lap:  # the first lap warms up
            seconds["a loop by hand"].append(middle - start)
            seconds["evalkit generate"].append(end - middle)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    print(f"torch {torch.__version__}, 1 thread, {SEEDS} images in batches of {BATCH}, {rounds} rounds")
    print("| way | s | x the loop |\n|---|---|---|")
    for way, value in medians.items():
        print(f"| {way} | {value:.2f} | {value / medians['a loop by hand']:.3f} |")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
