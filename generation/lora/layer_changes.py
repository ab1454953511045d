"""Turns the tensors of one layer of a file into its change: low-rank factors, or another change of the weight."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from evalkit.errors import UserError, first_line
from generation.lora import weight_forms
from generation.lora.adapter_forms import FormInputs, find_form
from generation.lora.factors import DenseChange, Factors
from generation.lora.fused_layers import FusedLayer
from generation.lora.key_forms import LayerTensors

AlphaZero = Literal["rank", "zero"]
PAIR = frozenset({"down", "up"})
# Roles that change another parameter than the weight, and which.
VECTORS = {"diff_b": "bias", "w_norm": "weight", "b_norm": "bias"}
OTHER_MODEL = "made for another architecture?"


@dataclass(frozen=True)
class LayerChange:
    """Changes of one layer: factors with their scale, or another change of the weight; and changes of biases and norms."""

    factors: Factors | None = None
    scale: float = 1.0
    dense: DenseChange | None = None
    # by parameter, such as "bias"
    parameters: Mapping[str, DenseChange] | None = None


@dataclass(frozen=True)
class LayerReader:
    """Reads the tensors of one layer; knows the file, for messages, and the meaning of an alpha of 0."""

    path: str
    alpha_zero: AlphaZero | None
    group: LayerTensors
    layer: str
    module: nn.Module | FusedLayer
    config: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the layer's weight."""
        if isinstance(self.module, FusedLayer):
            return self.module.shape
        weight: Any = self.module.weight
        return tuple(weight.shape)

    def read(self) -> LayerChange:
        """Return the change that the tensors describe.

        Raises:
            UserError: tensors are missing, do not fit the layer, or leave the scale open.
        """
        if isinstance(self.module, nn.Conv2d) and self.module.groups != 1:
            self._refuse(self.group.key, f"{self.layer} is a grouped convolution, which is not supported")
        if self.config.get("use_dora") and "magnitude" not in self.group.tensors and PAIR <= set(self.group.tensors):
            self._refuse(self.group.key, "a DoRA file without the magnitudes of this layer; save the LoRA again")
        roles = set(self.group.tensors)
        parameters = {VECTORS[role]: self._vector(role) for role in sorted(roles & set(VECTORS))}
        rest = roles - set(VECTORS) - {"alpha", "dora_scale", "magnitude"}
        if not rest:
            if not parameters or roles & {"dora_scale", "magnitude"}:
                self._refuse(self.group.key, f"no factors of {self.layer} belong to it; the file is incomplete")
            return LayerChange(parameters=parameters)
        if rest in (PAIR, PAIR | {"mid"}):
            factors = self._pair()
            scale = self._scale(factors.rank)
            if not roles & {"dora_scale", "magnitude"}:
                return LayerChange(factors, scale, None, parameters)
            form, change = "DoRA", Factors(factors.down.float(), factors.up.float() * scale).dense
        else:
            form, change = self._form(rest)
        if roles & {"dora_scale", "magnitude"}:
            change, form = self._decomposed(change), "DoRA" if form == "DoRA" else f"{form} with weight decomposition"
        self._check(change, form)
        shape = self.shape
        return LayerChange(None, 1.0, DenseChange(form, shape, lambda: change().reshape(shape)), parameters)

    def _refuse(self, key: str, problem: str) -> NoReturn:
        raise UserError(f"{self.path}: {key}: {problem}")

    def _pair(self) -> Factors:
        down, up, shape = self.group.tensors["down"], self.group.tensors["up"], self.shape
        if "mid" in self.group.tensors:
            try:
                down = weight_forms.tucker_down(self.group.tensors["mid"].float(), down.float())
            except RuntimeError:
                self._refuse(self.group.key, f"Tucker factors do not fit each other; {OTHER_MODEL}")
        rank = up.shape[1] if up.dim() > 1 else 0
        fits = rank > 0 and down.dim() > 1 and len(down) == rank and len(up) == shape[0] and up.numel() == shape[0] * rank
        window_fits = down.dim() != 4 or len(shape) != 4 or tuple(down.shape[1:]) == shape[1:]
        if not fits or not window_fits or down[0].numel() != math.prod(shape[1:]):
            self._refuse(
                self.group.key,
                f"factors of shape {list(down.shape)} and {list(up.shape)} do not fit {self.layer}, which needs "
                f"[rank, {', '.join(map(str, shape[1:]))}] and [{shape[0]}, rank{', 1, 1' if len(shape) == 4 else ''}]; "
                f"{OTHER_MODEL}",
            )
        return Factors(down.reshape(rank, *shape[1:]), up.flatten(1))

    def _alpha(self) -> float | None:
        alpha = self.group.tensors.get("alpha")
        if alpha is None:
            return None
        if alpha.numel() != 1:
            self._refuse(self.group.keys["alpha"], f"contains {alpha.numel()} numbers; an alpha is one number")
        return float(alpha)

    def _scale(self, rank: int) -> float:
        """Return alpha / rank: from the layer's alpha key, else from peft's configuration, else 1 (alpha = rank)."""
        value: object = self._alpha()
        if value is None and self.config:
            from peft.utils.other import get_pattern_key

            name = self.layer.partition(".")[2]
            patterns = self.config.get("alpha_pattern") or {}
            value = patterns.get(get_pattern_key(list(patterns), name), self.config.get("lora_alpha", rank))
        if value is None:
            value = rank
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{self.path}: {self.layer}: alpha is {value}, not a number; save the LoRA again")
        return self._effective(value, rank) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _effective(self, alpha: float, rank: int) -> float:
        """Return alpha, or what an alpha of 0 means."""
        if alpha == 0 and self.alpha_zero is None:
            self._refuse(
                self.group.keys.get("alpha", self.group.key),
                "alpha is 0, which kohya and InvokeAI read as the rank, ComfyUI and A1111 as no change; "
                'set alpha_zero = "rank" or "zero" for this LoRA',
            )
        return rank if alpha == 0 and self.alpha_zero == "rank" else alpha

    def _form(self, roles: set[str]) -> tuple[str, Callable[[], Tensor]]:
        """Return the name of the layer's form and the function that computes its change."""
        form = find_form(roles)
        if form is None:
            names = ", ".join(sorted(self.group.keys[role] for role in roles))
            half = f"; its other half ({next(iter(PAIR - roles))}) is missing" if len(PAIR & roles) == 1 else ""
            self._refuse(names, f"these tensors form no complete adapter of {self.layer}{half}; save the LoRA again")
        alpha = self._alpha()
        given = FormInputs(
            {role: tensor.float() for role, tensor in self.group.tensors.items() if role in roles},
            self.shape,
            partial(_base, self.module),
            lambda rank: 1.0 if alpha is None else self._effective(alpha, rank) / rank,
            alpha,
            self.config,
        )
        try:
            return form.name, form.prepare(given)
        except UserError as error:
            raise error if str(error).startswith(self.path) else UserError(f"{self.path}: {self.group.key}: {error}") from error
        except (ValueError, RuntimeError, IndexError) as error:
            self._refuse(
                self.group.key, f"its {form.name} tensors do not fit {self.layer} ({first_line(error)}); {OTHER_MODEL}"
            )

    def _decomposed(self, change: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return DoRA's change of the weight on top of another change."""
        role = "dora_scale" if "dora_scale" in self.group.tensors else "magnitude"
        magnitude = self.group.tensors[role].float()
        # LyCORIS may decompose per input, [1, inputs(, 1, 1)]; peft always decomposes per output
        outputs = role == "magnitude" or magnitude.dim() < 2 or magnitude.shape[0] != 1 or self.shape[0] == 1
        count, axes = magnitude.numel(), magnitude.shape[:2] if role == "magnitude" or not outputs else magnitude.shape[:1]
        if count != self.shape[0 if outputs else 1] or count not in (1, *axes):
            self._refuse(
                self.group.keys[role],
                f"magnitudes of shape {list(magnitude.shape)} for a weight of {list(self.shape)}; {OTHER_MODEL}",
            )
        base, shape = partial(_base, self.module), self.shape
        return lambda: weight_forms.dora(base(), weight_forms.fitted(change(), shape), magnitude, outputs=outputs)

    def _vector(self, role: str) -> DenseChange:
        vector, parameter = self.group.tensors[role].float(), VECTORS[role]
        target: Any = getattr(self.module, parameter, None)
        if target is None or vector.numel() != target.numel() or target.dim() != 1:
            self._refuse(
                self.group.keys[role], f"{vector.numel()} numbers do not fit the {parameter} of {self.layer}; {OTHER_MODEL}"
            )
        return DenseChange("bias" if parameter == "bias" else "norm", (vector.numel(),), vector.flatten)

    def _check(self, change: Callable[[], Tensor], form: str) -> None:
        """Compute the change once, so that a file that does not fit is refused before anything is generated."""
        try:
            result = weight_forms.fitted(change(), self.shape)
        except (RuntimeError, IndexError, ValueError) as error:
            self._refuse(self.group.key, f"its {form} tensors do not fit {self.layer} ({first_line(error)}); {OTHER_MODEL}")
        if not bool(torch.isfinite(result).all()):
            self._refuse(self.group.key, f"its {form} change of {self.layer} is not finite; the file is damaged")


def _base(module: Any) -> Tensor:  # noqa: ANN401 - a layer, or several as one
    if module.weight.is_meta or not module.weight.is_floating_point():
        state = "offloaded" if module.weight.is_meta else "quantised"
        raise UserError(
            f"the base weight is {state}, and this form of adapter depends on it; give an unquantised base model in memory"
        )
    base: Tensor = module.weight.detach().to("cpu", torch.float32)
    return base
