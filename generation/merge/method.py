"""Merge methods: functions whose signatures are the schemas of their parameters."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from pydantic import ValidationError, create_model

from evalkit.run.file_record import Record, mistakes
from generation.merge.calibration import CalibrationOptions
from generation.merge.dropout_masks import MaskOptions

Kind = Literal["weights", "outputs", "steps", "calibrated"]
Needs = Literal["inputs", "hidden", "columns"]
# Parameters of all methods of a kind, in addition to their own.
OPTIONS: Mapping[Kind, type[Record]] = {
    "weights": Record,
    "outputs": MaskOptions,
    "steps": Record,
    "calibrated": CalibrationOptions,
}


@dataclass(frozen=True)
class MergeMethod:
    """A way to merge LoRAs: name, what it acts on, its source, and the function that does it.

    The function's positional arguments depend on `acts_on`; the method's parameters follow as keywords.

    - weights: the LoRAs' `Factors` in a layer, scaled by weight * alpha / rank, and the `Layer`. Returns the merged `Factors`,
      or a dense change of the weight.
    - outputs: the layer's `MaskDraws` and one dropout rate per LoRA. Returns one multiplier of each LoRA's output.
    - steps: the `StepPlan` of a sampling run. Returns, per layer, a table of multipliers of the LoRAs' outputs.
    - calibrated: as weights, plus the layer's `Moments`; or, if it needs columns, a `ColumnObjective` of the whole denoiser.
      The latter returns, per layer, multipliers of the LoRAs' inputs.
    """

    name: str
    acts_on: Kind
    source: str
    function: Callable[..., Any]
    # how it differs from its authors' code, with a number that `python -m benchmarks.method_differences` reproduces
    difference: str = ""
    # raises a ValueError if the settings do not fit this number of LoRAs
    check: Callable[[int, Any], None] | None = None
    # of a calibrated method: moments of a layer's inputs, moments of hidden activations, or an objective over input columns
    needs: Needs = "inputs"
    # why the method needs low-rank factors, if it does; a given parameter `rank` replaces those of the files
    factors_reason: str = ""

    @property
    def schema(self) -> type[Record]:
        """Return the model of the method's parameters, built from its signature and its kind's options."""
        hints = get_type_hints(self.function, include_extras=True)
        own = {
            name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        fields: dict[str, Any] = own
        return create_model(self.name, __base__=OPTIONS[self.acts_on], **fields)

    def settings(self, parameters: Mapping[str, Any]) -> Record:
        """Return the parameters, checked and with defaults filled in.

        Raises:
            ValueError: a parameter is unknown or out of range; the message states which and what is allowed.
        """
        schema = self.schema
        known = list(schema.model_fields)
        unknown = [name for name in parameters if name not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"{self.name} has no parameter {unknown[0]!r}; {hint}its parameters are {', '.join(known) or 'none'}"
            )
        try:
            return schema.model_validate(dict(parameters))
        except ValidationError as error:
            raise ValueError("; ".join(mistakes(error))) from error

    @property
    def summary(self) -> str:
        """Return the first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


def merge_method(
    acts_on: Kind,
    source: str,
    difference: str,
    check: Callable[[int, Any], None] | None = None,
    needs: Needs = "inputs",
    factors_reason: str = "",
) -> Callable[[Callable[..., Any]], MergeMethod]:
    """Return a decorator that turns a function into the `MergeMethod` of the same name."""
    return lambda function: MergeMethod(function.__name__, acts_on, source, function, difference, check, needs, factors_reason)


def by_name(*methods: MergeMethod) -> Mapping[str, MergeMethod]:
    """Return the registry of `methods`; raise a ValueError if two have one name."""
    registry: dict[str, MergeMethod] = {}
    for method in methods:
        if method.name in registry:
            raise ValueError(f"two merge methods are called {method.name!r}")
        registry[method.name] = method
    return registry
