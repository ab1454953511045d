"""Training recipe: schema of the TOML file that describes the training of one LoRA."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from evalkit.errors import UserError
from evalkit.run.file_record import Name, Record, Seed, mistakes
from generation.pipeline import Dtype

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Rank = Annotated[int, Field(ge=1, le=1024)]
Weight = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Consistency(Record):
    """Noise Consistency Regularization (arXiv 2506.06483, section 4.3): L_s + prior * L_cp + subject * L_cs.

    The defaults are the paper's. L_cp takes the place of DreamBooth's prior term, so `prior_weight` is 0 unless it is given.
    """

    prior: Weight = 0.5
    subject: Weight = 0.5
    # standard deviation of the noise on the latents; "additive" is the paper's ablation
    sigma: Annotated[float, Field(gt=0, le=10)] = 0.2
    noise: Literal["multiplicative", "additive"] = "multiplicative"
    # keep L_cs from moving the prediction of the clean latents; the paper's equation 6 does not
    detach_clean: bool = False


class Dco(Record):
    """Direct Consistency Optimization (arXiv 2402.12004): fit the concept's images only as far beyond the base model as needed.

    `per` is the unit of the sigmoid: each sample, or the mean over the batch as in the authors' code.
    """

    beta: Annotated[float, Field(gt=0, le=1_000_000)] = 1000.0
    per: Literal["sample", "batch"] = "sample"


class Blocks(Record):
    """BlockLoRA's rows (Zhu et al. 2025, section 3.3): the LoRA changes only a slot's outputs of every layer.

    All LoRAs of a merge must agree on `slots` and `rule`, and use different slots, counted from 0. "contiguous" gives a slot a
    range of rows, "heads" whole attention heads (if the layer has heads), "strided" every `slots`-th row.
    """

    slot: Annotated[int, Field(ge=0)]
    slots: Annotated[int, Field(ge=2, le=10_000)]
    rule: Literal["contiguous", "heads", "strided"] = "contiguous"

    @model_validator(mode="after")
    def _slot_exists(self) -> "Blocks":
        if self.slot >= self.slots:
            raise ValueError(f"slot {self.slot} does not exist among {self.slots} slots; give 0 to {self.slots - 1}")
        return self


class Erasure(Record):
    """BlockLoRA's randomized output erasure (section 3.2): at every step each row of the change is zero with this rate.

    The paper gives no rate, and no rescaling: while training, the change then has 1 - rate of its later strength on average.
    """

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    # one draw for all samples of a step, or one for each
    per: Literal["step", "sample"] = "step"
    rescale: bool = False


class Basis(Record):
    """Orthogonal Adaptation (Po et al. 2024): the first factors are frozen to rows of a basis that all concepts share.

    "slots" gives each concept separate rows; "random" draws them by the concept's name, as the paper does, so they may overlap
    by chance.
    """

    rows: Literal["slots", "random"] = "slots"
    slot: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _slot_matches_rows(self) -> "Basis":
        if (self.slot is None) != (self.rows == "random"):
            raise ValueError('rows = "slots" requires a slot, counted from 0; rows = "random" has none')
        return self


class Embeddings(Record):
    """ED-LoRA's new words (Mix-of-Show, Gu et al. 2023): each has an embedding for every cross-attention block.

    `prompt` must hold them all. The first begins at N(0, sigma^2), the others as `class_word`; sigma and learning rate are the
    authors'. They also stop training embeddings whose norm passes a threshold; here nothing stops them.
    """

    words: Annotated[tuple[Annotated[str, Field(pattern=r"^\S+$")], ...], Field(min_length=1)]
    class_word: Annotated[str, Field(pattern=r"\S")]
    sigma: Annotated[float, Field(gt=0, le=10)] = 0.013
    learning_rate: Rate = 1e-3


class TrainingRecipe(Record):
    """A concept and how its LoRA is trained; the defaults are those of diffusers' DreamBooth example for SDXL.

    A text file with the name of an image (`3.txt` next to `3.png`) replaces `prompt` for that image.
    """

    concept: Name
    base: str
    revision: str | None = None
    dtype: Dtype = "float32"
    # a folder of images, or "tinyworld" for the references of the concept of that name
    references: str
    prompt: str
    # one prompt, or several: prior images are sampled for each in turn. Two-object scenes keep the model able to sample them
    class_prompt: str | Annotated[tuple[str, ...], Field(min_length=1)]
    # side of the square training images in pixels
    size: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 1024
    prior_images: Annotated[int, Field(ge=0, le=100_000)] = 100
    prior_weight: Weight = 1.0
    prior_steps: Count = 25
    prior_guidance: Weight = 5.0
    # loss terms in addition to DreamBooth's squared errors, or in their place
    consistency: Consistency | None = None
    dco: Dco | None = None
    rank: Rank = 4
    # by default the rank, so that the LoRA's scale is 1
    alpha: Annotated[float, Field(gt=0, le=10_000)] | None = None
    # ends of the names of the UNet's layers to adapt; add "ff.net.0.proj", "ff.net.2", "conv1", "conv2" for more than attention
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ATTENTION
    # without it the text encoders are not trained
    text_rank: Rank | None = None
    text_targets: Annotated[tuple[str, ...], Field(min_length=1)] = TEXT_ATTENTION
    # textual-inversion embeddings, trained with the LoRA and written to a separate file
    embeddings: Embeddings | None = None
    # constraints on the factors
    blocks: Blocks | None = None
    basis: Basis | None = None
    # dropout at each step: elements of a LoRA's input, its hidden units, rows of its change
    dropout: Share = 0.0
    rank_dropout: Share = 0.0
    erasure: Erasure | None = None
    steps: Count = 500
    # instance images per step; as many prior images are added
    batch: Count = 1
    learning_rate: Rate = 1e-4
    text_learning_rate: Rate = 5e-6
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    seed: Seed = 0
    # compute activations twice instead of keeping them: less memory, more time, the same result on the CPU
    gradient_checkpointing: bool = False
    # steps between two checkpoints; each time as many images of `prompt` are sampled, like the prior images
    keep_every: Count = 100
    samples: Annotated[int, Field(ge=0, le=16)] = 1

    @model_validator(mode="before")
    @classmethod
    def _one_prior_term(cls, raw: Any) -> Any:  # noqa: ANN401 - what TOML gives
        if isinstance(raw, dict) and "consistency" in raw:
            return {"prior_weight": 0.0} | raw
        return raw

    @model_validator(mode="after")
    def _prompt_contains_words(self) -> "TrainingRecipe":
        for word in () if self.embeddings is None else self.embeddings.words:
            if word not in self.prompt.split():
                raise ValueError(
                    f"embeddings.words: {word!r} is not in prompt {self.prompt!r}; add every new word to the prompt"
                )
        return self

    @model_validator(mode="after")
    def _has_prior_images(self) -> "TrainingRecipe":
        if self.consistency is not None and self.consistency.prior > 0 and self.prior_images == 0:
            raise ValueError("consistency.prior: requires prior images; set prior_images above 0, or consistency.prior to 0")
        return self

    @property
    def uses_prior(self) -> bool:
        """Return whether some term of the loss uses prior images."""
        return self.prior_images > 0 and (
            self.prior_weight > 0 or (self.consistency is not None and self.consistency.prior > 0)
        )

    @property
    def class_prompts(self) -> tuple[str, ...]:
        """Return the prompts of the prior images, one or several."""
        return (self.class_prompt,) if isinstance(self.class_prompt, str) else self.class_prompt


def read_recipe(path: Path) -> TrainingRecipe:
    """Return the recipe in `path`.

    Raises:
        UserError: the file has mistakes; the message lists all of them.
    """
    return parse_recipe(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file; raise a UserError if it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check path and permissions") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML ({error}); correct it") from error


def parse_recipe(raw: dict[str, Any], source: str) -> TrainingRecipe:
    """Return the recipe of a TOML table; raise a UserError that begins with `source` and lists all mistakes."""
    try:
        return TrainingRecipe.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{source}: {'; '.join(mistakes(error))}") from error
