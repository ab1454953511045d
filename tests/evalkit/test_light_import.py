"""Importing is light: no PyTorch, no pandas, until something is scored."""

import subprocess
import sys

HEAVY = ("torch", "torchvision", "open_clip", "timm", "pyiqa", "pandas", "transformers", "diffusers")


def loaded(code: str) -> list[str]:
    """Return which heavy packages a fresh Python has after running some code."""
    listing = f"import sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_evalkit_is_light():
    assert loaded("import evalkit; evalkit.list_metrics(); evalkit.metric('clip_t')") == []


def test_its_commands_are_light():
    names = (
        "cli.console",
        "cli.doctor",
        "cli.score",
        "cli.score_output",
        "metrics.plugins",
        "run.file_record",
        "run.import_images",
        "run.manifest",
        "run.score_table",
    )
    assert loaded("import " + ", ".join(f"evalkit.{name}" for name in names)) == []


def test_the_public_names_are_sorted_and_there():
    import evalkit

    assert sorted(evalkit.__all__) == evalkit.__all__
    assert all(hasattr(evalkit, name) for name in evalkit.__all__)
    assert loaded("import evalkit.scoring.in_memory, evalkit.scoring.run_scorer, evalkit; evalkit.score") == []
