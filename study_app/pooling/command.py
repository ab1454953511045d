"""The command `evalkit pool`: a random-effects summary over verified exports of several labs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.console import Json

if TYPE_CHECKING:
    from analysis.contrast import Contrast
    from study_app.pooling.studies import PooledPair


def pool(
    exports: Annotated[list[Path], typer.Argument(metavar="EXPORT...", help="Zip files written by `evalkit study export`.")],
    as_json: Json = False,
) -> None:
    """Summarize studies of the same arms by several labs: mean preference, heterogeneity, prediction interval.

    Every export is verified first. The share of votes of each study enters with its clustered error; the summary is a
    random-effects model (REML) with the interval of Hartung and Knapp.
    """
    from evalkit.cli.console import print_json, stdout
    from evalkit.errors import UserError
    from study_app.pooling.studies import pool_exports

    if len(exports) < 2:
        raise UserError(f"pool: {len(exports)} export cannot be summarized; give the zip files of two studies or more")
    pairs = pool_exports(exports)
    if as_json:
        print_json([_document(pair) for pair in pairs])
        return
    console = stdout()
    for pair in pairs:
        console.print(f"share of votes for {pair.first} against {pair.second}", style="bold", markup=False)
        for name, contrast in pair.studies:
            console.print(f"  {name}: {_study(contrast)}", markup=False)
        console.print(f"  summary: {_summary(pair)}", markup=False)


def _study(contrast: "Contrast") -> str:
    if contrast.estimate is None or contrast.interval is None:
        return "no estimate with an error"
    low, high = contrast.interval
    return f"{100 * contrast.estimate:.1f} % [{100 * low:.1f}, {100 * high:.1f}], {contrast.n:,} votes"


def _summary(pair: "PooledPair") -> str:
    found = pair.summary
    if found is None:
        return "none: fewer than two studies have an estimate with an error"
    low, high = found.interval
    text = (
        f"{100 * found.estimate:.1f} % [{100 * low:.1f}, {100 * high:.1f}], p = {found.p:.3g}, "
        f"SD between studies {100 * found.tau:.1f} points, I² {100 * found.i_squared:.0f} %"
    )
    if found.prediction_interval is not None:
        low, high = found.prediction_interval
        text += f"; a further study: [{100 * low:.1f}, {100 * high:.1f}]"
    return text


def _document(pair: "PooledPair") -> dict[str, object]:
    return {
        "first": pair.first,
        "second": pair.second,
        "studies": [{"export": name, **contrast.records()[0]} for name, contrast in pair.studies],
        "summary": None if pair.summary is None else pair.summary.records()[0],
    }
