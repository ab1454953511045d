"""Registry of adapter forms: the tensors that each consists of, and its change of the weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from evalkit.errors import UserError
from generation.lora import weight_forms


@dataclass(frozen=True)
class FormInputs:
    """Tensors of one layer by role, and everything else that a change depends on."""

    tensors: Mapping[str, Tensor]
    shape: tuple[int, ...]
    # returns the unmodified weight in float32 on the CPU
    base: Callable[[], Tensor]
    # returns alpha / rank for a rank; 1 without an alpha
    scale: Callable[[int], float]
    # the file's alpha as it is
    alpha: float | None
    # peft's configuration, if the file has one
    config: Mapping[str, Any]


@dataclass(frozen=True)
class AdapterForm:
    """One form: name, roles of its tensors, keys and equation for the docs, and a function that prepares the change."""

    name: str
    roles: frozenset[str]
    keys: str
    equation: str
    oracle: str
    prepare: Callable[[FormInputs], Callable[[], Tensor]]
    optional: frozenset[str] = frozenset()

    def matches(self, roles: set[str]) -> bool:
        """Return whether a layer's tensors are those of this form."""
        return self.roles <= roles <= self.roles | self.optional


def find_form(roles: set[str]) -> AdapterForm | None:
    """Return the form with these roles of tensors, None if there is none."""
    return next((form for form in ADAPTER_FORMS if form.matches(roles)), None)


def _loha(given: FormInputs) -> Callable[[], Tensor]:
    t = given.tensors
    one, two = (t["hada_w1_a"], t["hada_w1_b"]), (t["hada_w2_a"], t["hada_w2_b"])
    scale = given.scale(one[1].shape[0])
    return lambda: weight_forms.loha(one, two, given.shape) * scale


def _loha_tucker(given: FormInputs) -> Callable[[], Tensor]:
    t = given.tensors
    scale = given.scale(t["hada_w1_b"].shape[0])
    halves = [(t[f"hada_t{n}"], t[f"hada_w{n}_a"], t[f"hada_w{n}_b"]) for n in (1, 2)]
    return lambda: weight_forms.tucker(*halves[0]) * weight_forms.tucker(*halves[1]) * scale


def _lokr(given: FormInputs) -> Callable[[], Tensor]:
    t = given.tensors
    second = t.get("lokr_w2_b", t.get("lokr_w1_b"))
    # two full matrices have no rank, and alpha is ignored
    scale = 1.0 if second is None else given.scale(second.shape[0])

    def compute() -> Tensor:
        w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
        if "lokr_t2" in t:
            w2 = weight_forms.tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
        else:
            w2 = t["lokr_w2"] if "lokr_w2" in t else t["lokr_w2_a"] @ t["lokr_w2_b"]
        return weight_forms.lokr(w1, w2, given.shape) * scale

    return compute


def _oft(given: FormInputs) -> Callable[[], Tensor]:
    blocks, rescale = given.tensors["oft_blocks"], given.tensors.get("rescale")
    if blocks.dim() != 3 or blocks.shape[0] * blocks.shape[1] != given.shape[0]:
        raise ValueError(f"blocks of shape {list(blocks.shape)} do not divide {given.shape[0]} outputs")
    # alpha bounds the rotation; LyCORIS writes 0 for no bound, and kohya's trainer would have left the blocks at 0
    return lambda: weight_forms.diagonal_oft(given.base(), blocks, given.alpha or None, rescale)


def _peft_oft(given: FormInputs) -> Callable[[], Tensor]:
    if not given.config:
        raise UserError("peft's OFT needs its adapter_config.json; give the folder that peft wrote")
    series = int(given.config.get("num_cayley_neumann_terms", 5)) if given.config.get("use_cayley_neumann", True) else None
    return lambda: weight_forms.peft_oft(given.base(), given.tensors["oft_R"], series=series)


def _ia3(given: FormInputs) -> Callable[[], Tensor]:
    on_input = bool(given.tensors["on_input"].flatten()[0])
    return lambda: weight_forms.ia3(given.base(), given.tensors["ia3"], on_input=on_input)


def _peft_ia3(given: FormInputs) -> Callable[[], Tensor]:
    vector = given.tensors["ia3_l"]
    on_input = vector.dim() > 1 and vector.shape[0] == 1
    return lambda: weight_forms.ia3(given.base(), vector - 1, on_input=on_input)


HADA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
LOKR = tuple(
    frozenset(one | two)
    for one in ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
    for two in ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"})
)
LYCORIS, PEFT, EQUATION = "forward pass of lycoris-lora 4.1.3", "forward pass of peft", "the definition"
ADAPTER_FORMS: tuple[AdapterForm, ...] = (
    AdapterForm("LoHa", HADA, "`.hada_w1_a`, `_w1_b`, `_w2_a`, `_w2_b`", "a/r (w1_a w1_b) * (w2_a w2_b)", LYCORIS, _loha),
    AdapterForm(
        "LoHa, Tucker", HADA | {"hada_t1", "hada_t2"},
        "the same and `.hada_t1`, `.hada_t2`",
        "a/r f(t1, w1_a, w1_b) * f(t2, w2_a, w2_b)", LYCORIS, _loha_tucker,
    ),
    *(
        AdapterForm(
            "LoKr", roles, ", ".join(f"`.{role}`" for role in sorted(roles)),
            "kron(w1, w2)" if roles == LOKR[0] else "a/r kron(w1, w2)", EQUATION if "lokr_t2" in roles else LYCORIS, _lokr,
        )
        for roles in LOKR
    ),
    AdapterForm(
        "OFT", frozenset({"oft_blocks"}), "`.oft_blocks`, `.rescale`; alpha bounds the rotation",
        "R^T W - W on blocks of outputs",
        LYCORIS, _oft, frozenset({"rescale"}),
    ),
    AdapterForm(
        "OFT of peft", frozenset({"oft_R"}), "`.oft_R.weight` and adapter_config.json", "W R^T - W on blocks of inputs",
        PEFT, _peft_oft,
    ),
    AdapterForm(
        "IA3", frozenset({"ia3", "on_input"}), "`.weight`, `.on_input`", "W * weight along inputs or outputs", LYCORIS, _ia3
    ),
    AdapterForm("IA3 of peft", frozenset({"ia3_l"}), "`.ia3_l`", "W * (ia3_l - 1)", EQUATION, _peft_ia3),
    AdapterForm(
        "full difference", frozenset({"diff"}), "`.diff`", "diff", EQUATION, lambda given: lambda: given.tensors["diff"]
    ),
    AdapterForm(
        "replaced weight", frozenset({"set_weight"}), "`.set_weight`", "set_weight - W", EQUATION,
        lambda given: lambda: weight_forms.fitted(given.tensors["set_weight"], given.shape) - given.base(),
    ),
)  # fmt: skip
