"""New words with an embedding per block: drawn with, trained, written and read again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from generation.experiment_file import read_experiment
from generation.pipeline import Pipeline, load_pipeline, quiet
from generation.run import generate
from generation.tinyworld import weights_folder
from generation.token_embeddings import (
    TokenEmbeddings,
    TokenVocabulary,
    attention_blocks,
    read_embeddings,
    text_encoders,
    write_embeddings,
)
from generation.train.recipe import TrainingRecipe, read_recipe
from generation.train.token_training import begin_words, without_words
from generation.train.trainer import train_lora

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def words_for(pipeline: Pipeline, letter: str = "x", spread: float = 0.0) -> TokenEmbeddings:
    """Return the word <new> that every block reads as a letter, or as something of its own around it."""
    vectors = {}
    for name, encoder in text_encoders(pipeline).items():
        rows = encoder.get_input_embeddings().weight.detach()
        piece = pipeline.tokenizer(letter, add_special_tokens=False).input_ids
        same = rows[piece][:, None].repeat(1, len(attention_blocks(pipeline.unet)), 1)
        vectors[name] = same + spread * torch.randn(same.shape, generator=torch.Generator().manual_seed(1))
    return TokenEmbeddings(("<new>",), vectors)


def drawn(pipeline: Pipeline, prompt: str) -> torch.Tensor:
    with quiet():
        images: torch.Tensor = pipeline(
            prompt, negative_prompt="y", num_inference_steps=2, width=16, height=16, output_type="pt",
            latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        ).images  # fmt: skip
    return images


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_a_word_that_all_blocks_read_as_a_known_one_draws_what_that_one_draws(family: str, world: Path) -> None:
    pipeline = load_pipeline(world / family)
    before, tokenizer = drawn(pipeline, "a x b"), pipeline.tokenizer
    for encoder in text_encoders(pipeline).values():
        assert "forward" not in encoder.__dict__
    vocabulary = TokenVocabulary(pipeline, [words_for(pipeline)])
    assert torch.allclose(drawn(pipeline, "a <new> b"), before, atol=1e-5)
    assert torch.allclose(drawn(pipeline, "a x b"), before, atol=1e-5)
    vocabulary.close()
    assert pipeline.tokenizer is tokenizer
    assert torch.equal(drawn(pipeline, "a x b"), before)


def test_every_block_reads_the_word_in_its_own_way(world: Path) -> None:
    pipeline = load_pipeline(world / "sdxl")
    before = drawn(pipeline, "a x b")
    words = words_for(pipeline, spread=1.0)
    vocabulary = TokenVocabulary(pipeline, [words])
    assert not torch.allclose(drawn(pipeline, "a <new> b"), before, atol=1e-3)
    text, *_ = pipeline.encode_prompt(prompt="a <new> b", device="cpu", do_classifier_free_guidance=False)
    vocabulary.close()
    pieces = text.chunk(len(attention_blocks(pipeline.unet)), dim=1)
    assert len({piece.sum().item() for piece in pieces}) == len(pieces) > 1
    # what one block reads is the text with its own embedding in place of the word's
    for number, piece in enumerate(pieces):
        alone = {name: vectors[:, number : number + 1].expand_as(vectors) for name, vectors in words.vectors.items()}
        vocabulary = TokenVocabulary(pipeline, [TokenEmbeddings(words.words, alone)])
        same, *_ = pipeline.encode_prompt(prompt="a <new> b", device="cpu", do_classifier_free_guidance=False)
        vocabulary.close()
        assert torch.allclose(same.chunk(len(pieces), dim=1)[0], piece, atol=1e-5)


def test_a_file_says_what_it_is_and_is_read_again(world: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(world / "sdxl")
    words = words_for(pipeline, spread=1.0)
    write_embeddings(words, pipeline, "cat", tmp_path / "cat.embeddings.safetensors")
    again = read_embeddings(tmp_path / "cat.embeddings.safetensors", pipeline)
    assert again.words == words.words
    assert all(torch.equal(again.vectors[name], words.vectors[name]) for name in text_encoders(pipeline))
    with safe_open(tmp_path / "cat.embeddings.safetensors", "pt") as file:
        header = file.metadata()
    assert "layer-wise embeddings" in header["format"]
    assert '"blocks": ["down_blocks.1.attentions.0", "mid_block.attentions.0"' in header["evalkit.embeddings"]


def test_wrong_files_of_words_are_refused(world: Path, tmp_path: Path) -> None:
    pipeline, other = load_pipeline(world / "sdxl"), load_pipeline(world / "sd15")
    path = tmp_path / "w.safetensors"
    with pytest.raises(UserError, match=r"w\.safetensors: no such file of token embeddings"):
        read_embeddings(path, pipeline)
    with pytest.raises(UserError, match=r"the header has no evalkit\.embeddings"):
        read_embeddings(world / "star.safetensors", pipeline)
    write_embeddings(words_for(other), other, "cat", path)
    with pytest.raises(UserError, match=r"the base model requires .*give a file made for it"):
        read_embeddings(path, pipeline)
    write_embeddings(words_for(pipeline, spread=float("nan")), pipeline, "cat", path)
    with pytest.raises(UserError, match="text_encoder: contains NaN"):
        read_embeddings(path, pipeline)
    path.write_bytes(b"half")
    with pytest.raises(UserError, match="is not a complete safetensors file"):
        read_embeddings(path, pipeline)
    for known in ([words_for(pipeline)] * 2, [TokenEmbeddings(("x",), words_for(pipeline).vectors)]):
        with pytest.raises(UserError, match=r"embeddings: '(<new>|x)' is already a token"):
            TokenVocabulary(pipeline, known)


def test_an_experiment_draws_with_a_concept_s_words(experiment_file: Callable[..., Path], world: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(world / "sdxl")
    file = tmp_path / "star.embeddings.safetensors"
    write_embeddings(words_for(pipeline, spread=1.0), pipeline, "star", file)
    named = (
        ('words = "<s> star"', 'words = "<new>"\nembeddings = "star.embeddings.safetensors"'),
        ('method = "orthogonal_mc_dropout"\nparameters = { p = 0.5 }', 'method = "mix_of_show"'),
    )
    path, run = experiment_file(*named), tmp_path / "run"
    made = generate(read_experiment(path), run, path.parent, device="cpu", batch_size=3)
    again = generate(read_experiment(path), tmp_path / "again", path.parent, device="cpu", batch_size=1)
    assert [image.sha256 for image in made.images] == [image.sha256 for image in again.images]
    assert f'"star": "{sha256_file(file)}"' in (run / "provenance.json").read_text()
    write_embeddings(words_for(pipeline, spread=2.0), pipeline, "star", file)
    with pytest.raises(UserError, match="another experiment"):
        generate(read_experiment(path), run, path.parent, device="cpu")
    file.unlink()
    with pytest.raises(UserError, match=r"concepts\[0\]\.embeddings: .*no such file of token embeddings"):
        read_experiment(path)


LINES = """
concept = "bead_ring"
base = "tinyworld"
references = "tinyworld"
prompt = "a <ring1> <ring2>"
class_prompt = "a ring"
size = 64
prior_images = 2
prior_steps = 1
steps = 3
batch = 2
learning_rate = 1e-3
[embeddings]
words = ["<ring1>", "<ring2>"]
class_word = "ring"
learning_rate = 1e-2
[consistency]
"""


def test_tinyworld_trains_words_beside_a_lora(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(LINES)
    recipe, out = read_recipe(tmp_path / "recipe.toml"), tmp_path / "ring.safetensors"
    base = weights_folder() / "base"
    pipeline = load_pipeline(base)
    assert recipe.embeddings is not None
    first = begin_words(pipeline, recipe.embeddings, recipe.seed)
    trained = train_lora(pipeline, recipe, tmp_path, out, tmp_path / "prior", lambda *_: None)
    plain = load_pipeline(base)
    words = read_embeddings(tmp_path / "ring.embeddings.safetensors", plain)
    assert words.words == ("<ring1>", "<ring2>")
    for name, vectors in words.vectors.items():
        assert vectors.shape[:2] == (2, len(attention_blocks(plain.unet)))
        assert (vectors - first.vectors[name].detach()).abs().amax(dim=(0, 2)).min() > 1e-3
        # blocks begin alike and go their own ways
        assert torch.equal(first.vectors[name][:, 0], first.vectors[name][:, 1])
        assert not torch.equal(vectors[:, 0], vectors[:, 1])
    assert trained.parameters > sum(vectors.numel() for vectors in words.vectors.values())
    # the LoRA beside them is a file like any other
    assert all("lora" in key for key in load_file(out))
    plain.load_lora_weights(str(out))


def test_a_prompt_without_new_words_says_the_class_word() -> None:
    wanted = TrainingRecipe.model_validate(
        {"concept": "c", "base": "b", "references": "r", "prompt": "a <c1> <c2>", "class_prompt": "q",
         "embeddings": {"words": ["<c1>", "<c2>"], "class_word": "cat"}}
    ).embeddings  # fmt: skip
    assert without_words("a <c1> <c2> in the <c2>", wanted) == "a cat in the cat"
    assert without_words("a <c1> <c2>", None) == "a <c1> <c2>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("a <ring1> <ring2>", "a <ring1>"), "'<ring2>' is not in prompt 'a <ring1>'; add every new word to the prompt"),
        (('"<ring2>"]', '"two words"]'), r"embeddings\.words\[1\]: 'two words' must match"),
        (('["<ring1>", "<ring2>"]', "[]"), r"embeddings\.words"),
    ],
)
def test_words_that_do_not_fit_a_recipe_are_named(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(LINES.replace(*change))
    with pytest.raises(UserError, match=message):
        read_recipe(tmp_path / "recipe.toml")


def test_plain_textual_inversion_is_told_apart(world: Path, tmp_path: Path) -> None:
    save_file({"text_encoder": torch.zeros(1, 16)}, tmp_path / "ti.safetensors")
    with pytest.raises(UserError, match="give a file that evalkit train wrote"):
        read_embeddings(tmp_path / "ti.safetensors", load_pipeline(world / "sdxl"))
