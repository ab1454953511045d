"""Support of merge methods by base-model families: which combinations run, and why the others are refused."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from evalkit.errors import UserError
from generation.families.family import Family
from generation.lora.factors import Lora
from generation.merge.method import MergeMethod


def refusal(method: MergeMethod, family: Family) -> str | None:
    """Return why a method can't be used with a family, or None if it can."""
    if method.needs == "columns" and not family.predicts_noise_with_clip:
        return "it optimises through the loss of noise prediction on a UNet, and not through that of a transformer"
    return None


def required_parameters(method: MergeMethod, family: Family) -> tuple[str, ...]:
    """Return the parameters of a method whose defaults do not fit a family, so that an arm must set them."""
    return ("blocks",) if method.name == "b_lora" and family.name != "sdxl" else ()


def check_support(method: MergeMethod, family: Family, parameters: Mapping[str, object]) -> None:
    """Raise a UserError if a method can't be used with a family, or lacks a parameter that the family requires."""
    reason = refusal(method, family)
    if reason is not None:
        raise UserError(f"{method.name} does not support {family.name}: {reason}; use another method")
    missing = [name for name in required_parameters(method, family) if name not in parameters]
    if missing:
        raise UserError(
            f"{method.name} on {family.name}: parameters.{missing[0]} is missing, its default is for SDXL; set beginnings "
            f"of layer names such as '{family.denoiser}.{family.blocks[0]}.0'"
        )


def check_layers(method: MergeMethod, family: Family, loras: Iterable[Lora]) -> None:
    """Raise a UserError if a method masks outputs of a layer whose inputs have no row per image."""
    if method.acts_on != "outputs":
        return
    for lora in loras:
        for layer in lora.factors:
            if any(part in layer for part in family.rowless):
                raise UserError(
                    f"{lora.path.name}: {layer}: {method.name} can't mask this layer of {family.name}, which has no row "
                    "per image; use a merge of weights, or a LoRA without this layer"
                )


def omissions(methods: Iterable[MergeMethod], families: Sequence[Family]) -> list[dict[str, str]]:
    """Return every combination that is refused, or requires a parameter, one record each: method, family, and the reason."""
    records = []
    for method in methods:
        for family in families:
            reason = refusal(method, family)
            required = ", ".join(required_parameters(method, family))
            if reason is not None:
                records.append({"method": method.name, "family": family.name, "kind": "refused", "reason": reason})
            elif required:
                records.append({"method": method.name, "family": family.name, "kind": "parameter required", "reason": required})
    return records


def support_table(methods: Iterable[MergeMethod], families: Sequence[Family]) -> str:
    """Return the matrix of methods and families in Markdown: yes, no, or the parameter that an arm must set."""
    methods = list(methods)
    lines = [f"| method | {' | '.join(family.name for family in families)} |", f"|---{'|---' * len(families)}|"]
    reasons: dict[str, str] = {}
    for method in methods:
        cells = []
        for family in families:
            reason = refusal(method, family)
            if reason is not None:
                reasons[method.name] = reason
            required = ", ".join(required_parameters(method, family))
            cells.append("no" if reason is not None else f"with `{required}`" if required else "yes")
        lines.append(f"| `{method.name}` | {' | '.join(cells)} |")
    notes = [f"- `{name}`: {reason}." for name, reason in reasons.items()]
    counts = Counter(record["kind"] for record in omissions(methods, families))
    total = len(methods) * len(families)
    notes.append(
        f"- Of {total} combinations, {counts['refused']} are refused and {counts['parameter required']} require a parameter."
    )
    return "\n".join([*lines, "", *notes, ""])
