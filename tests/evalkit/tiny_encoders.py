"""Real open_clip and timm models at toy size, random, saved in the formats that full-size ones come in."""

import json
import string
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = "a an photo of red blue green square circle star and on background picture".split()


def save_tiny_clip(folder: Path, *, size: int = 64, seed: int = 0) -> Path:
    """Save a CLIP as open_clip's local-dir: configuration, weights, and a word-level tokenizer in Hugging Face's format."""
    import open_clip
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {
        word: number for number, word in enumerate(["<unk>", *WORDS, *string.ascii_lowercase[1:], "<start>", "<end>"])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<start>", eos_token="<end>", pad_token="<end>")
    fast.save_pretrained(folder)
    model = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": size, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {
            "context_length": 12,
            "vocab_size": len(vocabulary),
            "width": 32,
            "heads": 2,
            "layers": 2,
            "hf_tokenizer_name": "here",
        },
    }
    settings = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": settings}))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = open_clip.CLIP(**{**model, "text_cfg": {**model["text_cfg"]}})
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def save_tiny_dino(folder: Path, *, size: int = 64, seed: int = 0) -> Path:
    """Save a vision transformer as timm's local-dir: config.json and model.safetensors."""
    import timm

    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"img_size": size, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = timm.create_model("vit_small_patch16_224", pretrained=False, **arguments)
    config = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "num_features": 48,
        "global_pool": "token",
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(net.state_dict(), folder / "model.safetensors")
    return folder
