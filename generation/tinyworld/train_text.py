"""Train tinyworld's text encoders: small CLIPs whose text halves condition the diffusion model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.tinyworld.pools import Model, Pool, to_tensor, token_ids
from generation.tinyworld.words import CONCEPT_TOKENS, MAX_TOKENS, write_tokenizer


@dataclass(frozen=True)
class TextRecipe:
    """Width of a text encoder and the seed it is trained from."""

    folder: str
    tokenizer: str
    width: int
    seed: int
    projected: bool


RECIPES = (
    TextRecipe("text_encoder", "tokenizer", 64, 1, projected=False),
    TextRecipe("text_encoder_2", "tokenizer_2", 96, 2, projected=True),
)


def image_tower(width: int) -> nn.Module:
    """Return a small convolutional network from (n, 3, 64, 64) to (n, width)."""
    layers: list[nn.Module] = []
    channels = 3
    for out in (32, 64, 96, 128):
        layers += [nn.Conv2d(channels, out, 3, 2, 1), nn.GroupNorm(8, out), nn.GELU(), nn.Conv2d(out, out, 3, 1, 1), nn.GELU()]
        channels = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, width))


def contrastive(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric cross entropy of matching images to texts in a batch (Radford 2021, Fig. 3)."""
    logits = scale.exp().clamp(max=100) * functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T
    target = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def train_text_encoder(
    recipe: TextRecipe, pool: Pool, out: Path, say: Callable[[str], None], steps: int = 1000, batch: int = 96
) -> float:
    """Train one CLIP, write its text half and tokenizer under `out`, and return its last in-batch top-1. Takes 3 minutes."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    write_tokenizer(out / recipe.tokenizer)
    tokenizer = CLIPTokenizer.from_pretrained(out / recipe.tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=4 * recipe.width,
            projection_dim=recipe.width,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
        text: Model = CLIPTextModelWithProjection(config)
        tower = image_tower(recipe.width)
    scale = nn.Parameter(torch.tensor(2.66))
    parameters = [*text.parameters(), *tower.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    images, ids = to_tensor(pool.images), token_ids(tokenizer, pool.captions)
    generator = torch.Generator().manual_seed(recipe.seed)
    top = 0.0
    for step in range(steps):
        pick = torch.randint(len(pool), (batch,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            image_features, text_features = tower(images[pick]), text(input_ids=ids[pick]).text_embeds
        loss = contrastive(image_features.float(), text_features.float(), scale)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        with torch.no_grad():
            likeness = (
                functional.normalize(image_features.float(), dim=-1) @ functional.normalize(text_features.float(), dim=-1).T
            )
            top = 0.98 * top + 0.02 * float((likeness.argmax(1) == torch.arange(batch)).float().mean())
        if step % 100 == 99:
            say(f"{recipe.folder} step {step + 1}: top-1 of {batch}: {top:.3f}")
    give_spare_tokens_a_voice(text, tokenizer, generator)
    if recipe.projected:
        text.save_pretrained(out / recipe.folder)
    else:
        plain = CLIPTextModel(config)
        state = {key.removeprefix("text_model."): value for key, value in text.text_model.state_dict().items()}
        plain.load_state_dict(state, strict=True)
        plain.save_pretrained(out / recipe.folder)
    return top


def give_spare_tokens_a_voice(text: Model, tokenizer: Model, generator: torch.Generator) -> None:
    """Give concept tokens random vectors as long as the trained words' are.

    No caption trains them; left at their initial size they would drown in the position embeddings.
    """
    table = text.get_input_embeddings().weight
    spare = torch.tensor(tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in CONCEPT_TOKENS]))
    with torch.no_grad():
        length = table.norm(dim=-1).quantile(0.98)
        table[spare] = length * functional.normalize(torch.randn(len(spare), table.shape[1], generator=generator), dim=-1)
