"""Which layers of evalkit's LoRA files other programs read, by family and format, from their published key maps."""

from collections.abc import Mapping
from dataclasses import dataclass

# Unread layers as a regular expression on their names in diffusers' spelling; empty: every layer arrives.
ALL, NONE = "", "."
ATTENTION = r"\.to_(q|k|v|out\.0)$"
# Each format's unread layers by family. A family that is absent has no published map, or none that could be compared.
Unread = Mapping[str, str]


@dataclass(frozen=True)
class Reader:
    """A program that loads LoRA files: its name, its source, and the layers that it does not find, by family and format."""

    program: str
    source: str
    kohya: Unread
    diffusers: Unread

    def unread(self, file_format: str) -> Unread:
        """Return the unread layers of a format, as regular expressions by family."""
        return self.kohya if file_format == "kohya" else self.diffusers


READERS: tuple[Reader, ...] = (
    Reader(
        "diffusers", "diffusers 0.42.1, load_lora_weights, loaded in the tests",
        kohya={
            "sd15": ALL, "sdxl": ALL, "sd3": NONE, "flux2": "stream_modulation|norm_out",
            "flux2_klein": "stream_modulation|norm_out", "qwen_image": ALL, "z_image": "all_x_embedder|all_final_layer",
            "sana": NONE, "lumina2": NONE, "hidream": NONE,
        },
        diffusers=dict.fromkeys(
            ("sd15", "sdxl", "sd3", "flux", "flux2", "flux2_klein", "qwen_image", "z_image", "sana", "lumina2", "hidream"), ALL
        ),
    ),
    Reader(
        "ComfyUI", "Comfy-Org/ComfyUI 17358c8, comfy/lora.py and comfy/utils.py",
        kohya=dict.fromkeys(
            (
                "sd15", "sdxl", "sd3", "flux", "flux2", "flux2_klein", "qwen_image", "z_image", "pixart_sigma", "lumina2",
                "hidream",
            ),
            ALL,
        ),
        diffusers={
            "sd15": ATTENTION, "sdxl": ATTENTION, "sd3": ALL, "flux": ALL,
            "flux2": "stream_modulation|time_guidance_embed", "flux2_klein": "stream_modulation|time_guidance_embed",
            "qwen_image": ALL, "z_image": ALL, "pixart_sigma": ALL, "lumina2": NONE, "hidream": ALL,
        },
    ),
    Reader(
        "Forge", "lllyasviel/stable-diffusion-webui-forge dfdcbab, packages_3rdparty/comfyui_lora_collection",
        kohya={"sd15": ALL, "sdxl": ALL, "flux": ALL},
        diffusers={"sd15": ATTENTION, "sdxl": ATTENTION, "flux": ALL},
    ),
    Reader(
        "A1111", "AUTOMATIC1111/stable-diffusion-webui, extensions-builtin/Lora/networks.py",
        kohya={"sd15": r"^time_embedding\.", "sdxl": ALL},
        diffusers={"sd15": NONE, "sdxl": NONE},
    ),
    Reader(
        "InvokeAI", "invoke-ai/InvokeAI, invokeai/backend/patches/lora_conversions",
        kohya={
            "sd15": ALL, "sdxl": ALL, "flux": r"^(x_embedder|context_embedder|time_text_embed|norm_out|proj_out)",
            "qwen_image": r"^(?!transformer_blocks\.)", "z_image": NONE,
        },
        diffusers={"sd15": NONE, "sdxl": NONE, "flux": "norm_out|guidance_embedder", "qwen_image": ALL},
    ),
)  # fmt: skip


def readers_table(families: tuple[str, ...]) -> str:
    """Return the table of programs, families and formats in Markdown."""
    lines = [
        f"| program | format | {' | '.join(f'`{family}`' for family in families)} |",
        f"|---|---|{'---|' * len(families)}",
    ]
    notes: list[str] = []
    for reader in READERS:
        for file_format in ("kohya", "diffusers"):
            unread = reader.unread(file_format)
            cells = [_cell(unread.get(family), notes) for family in families]
            lines.append(f"| {reader.program} | {file_format} | {' | '.join(cells)} |")
    texts = [f"{number}. All but layers whose name matches `{pattern}`." for number, pattern in enumerate(notes, 1)]
    sources = [f"- {reader.program}: {reader.source}." for reader in READERS]
    return "\n".join([*lines, "", *texts, "", *sources, ""])


def _cell(pattern: str | None, notes: list[str]) -> str:
    if pattern is None:
        return "-"
    if pattern in (ALL, NONE):
        return "all" if pattern == ALL else "none"
    if pattern not in notes:
        notes.append(pattern)
    return f"all but {notes.index(pattern) + 1}"
