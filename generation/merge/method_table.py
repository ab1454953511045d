"""Reference page of the merge methods, generated from the registry."""

import inspect
import textwrap
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from generation.merge.method import OPTIONS, Kind, MergeMethod

INTRODUCTION = """# Merge methods

This page is generated from the registry by `evalkit methods --markdown`. [Generating images](generation.md) describes how
methods are used in experiments. Every method is one file in `generation/merge/methods/`.

Each method states how it differs from its authors' code or from the program that runs it most often, as a relative distance of
merged changes if nothing else is named. `python -m benchmarks.method_differences` measures these numbers on two random LoRAs of
rank 16 in layers of 320 x 320, where every direction is as likely as another. LoRAs that share directions give other numbers.

"""
# What a method acts on, by kind.
KINDS: Mapping[Kind, str] = {
    "weights": "weights: one change per layer, folded into the model",
    "calibrated": "weights after calibration: layers are observed while each LoRA generates its own concept",
    "outputs": "outputs of each LoRA in each layer, at every forward pass",
    "steps": "LoRAs, by denoising step",
}
WIDTH = 128
SYMBOLS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def methods_page(methods: Mapping[str, MergeMethod]) -> str:
    """Return the reference page in Markdown: an overview table, then a section for each method."""
    rows = ["| method | acts on | parameters | summary |", "|---|---|---|---|"]
    for method in methods.values():
        own = ", ".join(f"`{name}`" for name in _own_fields(method)) or "none"
        rows.append(f"| [`{method.name}`](#{method.name}) | {method.acts_on} | {own} | {_cell(method.summary)} |")
    sections = [_section(method) for method in methods.values()]
    return INTRODUCTION + "\n".join(rows) + "\n\n" + "\n".join([*sections, _shared_options()])


def allowed_values(field: FieldInfo) -> str:
    """Return which values a parameter takes, such as "> 0, <= 1" or "'ties', 'dare_ties'"; empty if any of its type."""
    bounds = [f"{SYMBOLS[name]} {value:g}" for name, value in _bounds(field.metadata)]
    return ", ".join(bounds) or ", ".join(_choices(field.annotation))


def _section(method: MergeMethod) -> str:
    text = (inspect.getdoc(method.function) or "").partition("\nRaises:")[0].strip()
    lines = [
        f"## {method.name}", "", text, "", f"- Acts on {KINDS[method.acts_on]}.", f"- Source: {method.source}.",
        textwrap.fill(f"- Difference from other code: {method.difference}", WIDTH, subsequent_indent="  "), "",
    ]  # fmt: skip
    fields = _own_fields(method)
    return "\n".join([*lines, *_parameters(fields)])


def _own_fields(method: MergeMethod) -> dict[str, FieldInfo]:
    shared = OPTIONS[method.acts_on].model_fields
    return {name: field for name, field in method.schema.model_fields.items() if name not in shared}


def _shared_options() -> str:
    lines = []
    for kind, options in OPTIONS.items():
        if options.model_fields:
            text = inspect.getdoc(options) or ""
            lines += [
                f"## Parameters of all methods on {kind}" if kind != "calibrated" else "## Parameters of all calibrated methods"
            ]
            lines += ["", text, "", *_parameters(options.model_fields)]
    return "\n".join(lines)


def _parameters(fields: Mapping[str, FieldInfo]) -> list[str]:
    if not fields:
        return ["It has no parameters.", ""]
    rows = ["| parameter | default | allowed |", "|---|---|---|"]
    for name, field in fields.items():
        default = "required" if field.is_required() else f"`{field.default!r}`"
        rows.append(f"| `{name}` | {default} | {_cell(allowed_values(field))} |")
    return [*rows, ""]


def _bounds(metadata: list[Any]) -> list[tuple[str, float]]:
    return [(name, getattr(entry, name)) for entry in metadata for name in SYMBOLS if getattr(entry, name, None) is not None]


def _choices(annotation: Any) -> list[str]:  # noqa: ANN401 - any type annotation
    """Return the literals, bounds and None that an annotation allows."""
    origin = get_origin(annotation)
    if origin is Literal:
        return [f"`{value!r}`" for value in get_args(annotation)]
    if origin is Annotated:
        base, *metadata = get_args(annotation)
        return [f"{SYMBOLS[name]} {value:g}" for name, value in _bounds(_flat(metadata))] or _choices(base)
    if origin in (Union, UnionType):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return ["`None`"] if annotation is NoneType else []


def _flat(metadata: list[Any]) -> list[Any]:
    """Return metadata with that of pydantic's `Field` spread out."""
    return [entry for item in metadata for entry in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
