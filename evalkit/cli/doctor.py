"""The command `evalkit doctor`: installed packages, device, weights, and checks of the models."""

from typing import Annotated

import typer

from evalkit.cli.console import Json


def doctor(
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="NAME=PATH, or a TOML file with a table `weights`; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show installed packages, the device, where weights are found, and whether each model matches its signature.

    Exits 1 if a model does not. A model whose package is not installed is named and not checked.
    """
    from evalkit.cli.console import print_json, print_table, stdout, table
    from evalkit.cli.machine import checked_models, device, versions, warnings, weights_found
    from evalkit.cli.score_output import print_weights
    from evalkit.distribution import install_command
    from evalkit.weights.lookup import parse_options

    given = parse_options(weights or ())
    located = list(weights_found(given))
    if as_json:
        models = dict(checked_models(given))
        print_json(
            {
                "packages": dict(versions()),
                "device": device(),
                "weights": [{"name": name, "found": state, "sha256": sha256 or None} for name, state, sha256 in located],
                "models": models,
                "warnings": list(warnings()),
            }
        )
    else:
        console = stdout()
        print_table(table(("package", "version"), versions(), names=2))
        console.print(f"device: {device()}", markup=False)
        print_weights(located)
        models = {}
        for name, faults in checked_models(given):
            models[name] = faults
            if faults is None:
                outcome = f"not checked, since its package is not installed; run: {install_command('metrics')}"
            else:
                outcome = "; ".join(faults) or "matches its signature"
            console.print(f"{name}: {outcome}", markup=False)
        for line in warnings():
            console.print(f"[yellow]warning[/yellow]: {line}")
    if any(models.values()):
        raise typer.Exit(1)
