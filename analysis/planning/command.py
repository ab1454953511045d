"""`evalkit plan`: how large a study must be, and its analysis written down beforehand."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.margin_scale import MarginScale

if TYPE_CHECKING:
    from analysis.planning.cheapest_design import Plan
    from analysis.planning.precision import Spread


def plan(
    concepts: Annotated[int | None, typer.Option(help="concepts (default: 30)")] = None,
    pairs: Annotated[int | None, typer.Option(help="cases, that is sets of concepts in use (default: all sets)")] = None,
    seeds: Annotated[int | None, typer.Option(help="seeds per case (default: 3)")] = None,
    people: Annotated[int | None, typer.Option(help="participants (default: 60)")] = None,
    votes: Annotated[int | None, typer.Option(help="votes per comparison (default: 5)")] = None,
    together: Annotated[int, typer.Option(help="concepts in one case")] = 2,
    effect: Annotated[float, typer.Option(help="difference from 50 % of votes that should be found: 0.05 is 55 %")] = 0.05,
    margin: Annotated[float | None, typer.Option(help="differences up to this share count as none (default: 0.05)")] = None,
    margin_scale: Annotated[MarginScale | None, typer.Option(help="what the margin is a share of (default: votes)")] = None,
    power: Annotated[float | None, typer.Option(help="find the cheapest design with this power, what is given held")] = None,
    half_width: Annotated[float | None, typer.Option(help="find the cheapest design with 95 % intervals this narrow")] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="minutes of work: concept=30, participant=5, judgment=0.1; may be repeated")
    ] = None,
    spread: Annotated[
        list[str] | None,
        typer.Option(help="guess, in logits: concept=0.3, pair=0.3, comparison=0.8, participant=0.5; may be repeated"),
    ] = None,
    pilot: Annotated[Path | None, typer.Option(metavar="RUN", help="learn the spread from this run's judgments")] = None,
    db: Annotated[
        str | None, typer.Option(metavar="URL", help="the pilot's database (default: sqlite:///RUN/study.db)")
    ] = None,
    simulate: Annotated[int, typer.Option(help="simulated studies that check the formula; 0 for none")] = 200,
    freeze: Annotated[Path | None, typer.Option(metavar="FILE", help="write the analysis down, with a hash")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="an arm that will be compared; may be repeated")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="with --freeze: a metric that will be tested; may be repeated")
    ] = None,
    faster_than_ms: Annotated[int | None, typer.Option(help="with --freeze: leave out judgments given sooner")] = None,
    fewer_votes_than: Annotated[int | None, typer.Option(help="with --freeze: leave out participants with fewer")] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="with --freeze: a study of simulated participants")] = False,
) -> None:
    """Say what a study can show before it begins: power, precision, floors, the cheapest design; and freeze its analysis."""
    from rich.console import Console

    from analysis.planning.cheapest_design import Plan, Target, cheapest, cost_of, prices_of
    from analysis.planning.precision import StudyDesign, outlook
    from analysis.votes.preference import margin_of
    from evalkit.errors import UserError

    width, scale = margin_of(margin, None if margin_scale is None else margin_scale.value)
    if freeze is not None and (arm is None or len(arm) < 2):
        raise UserError("plan: --freeze needs the arms that will be compared; name each with --arm, two or more")
    console = Console(highlight=False, soft_wrap=True)
    tests = len(arm) * (len(arm) - 1) // 2 if arm and len(arm) > 1 else 1
    given = {"concepts": concepts, "pairs": pairs, "seeds": seeds, "participants": people, "votes": votes}
    fixed = {name: value for name, value in given.items() if value is not None}
    guess, notes = _spread(spread or [], pilot, db)
    prices = prices_of(price or [])
    on_votes = width if scale == MarginScale.VOTES.value else None
    if power is None and half_width is None:
        design = StudyDesign(together=together, **fixed)
        found = Plan(cost_of(design, prices, tests), design, outlook(design, guess, effect, on_votes, tests))
    else:
        target = Target(effect, power, half_width)
        best = cheapest(target, guess, fixed, prices, together, tests)
        found = Plan(best.cost, best.design, outlook(best.design, guess, effect, on_votes, tests))
        console.print("The cheapest design that reaches the target:")
    for line in (*notes, *_lines(found, guess, tests, width)):
        console.print(line, markup=False)
    if simulate > 0:
        with console.status("simulating"):
            said = _check(found, guess, tests, simulate)
        console.print(said, markup=False)
    if freeze is not None:
        from analysis.planning.preregistration import VOTES, Exclusions, FrozenPlan
        from analysis.planning.preregistration import freeze as write

        rules = Exclusions(simulated=not simulated, faster_than_ms=faster_than_ms, fewer_votes_than=fewer_votes_than)
        held = FrozenPlan(
            arms=tuple(arm or ()),
            measures=(VOTES, *(metric or ())),
            margin=width,
            margin_scale=scale,
            exclusions=rules,
            design=asdict(found.design),
        )
        console.print(f"frozen: {freeze} (sha256 {write(held, freeze)})", markup=False)


def _spread(words: list[str], pilot: Path | None, db: str | None) -> "tuple[Spread, tuple[str, ...]]":
    from analysis.planning.precision import Spread
    from evalkit.errors import UserError

    guess = Spread()
    known = guess.records()[0]
    given = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            given[name] = float(number)
        except ValueError:
            given[name] = -1.0
        if name not in known:
            raise UserError(f"spread {word!r}: known are {', '.join(known)}; write for example concept=0.3")
    guess = Spread(**{**known, **given})  # type: ignore[arg-type] # every field is a float
    if pilot is None:
        return guess, ()
    from analysis.database_rows import read_run
    from analysis.planning.pilot import spread_of
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.run.manifest import Manifest

    Manifest.load(pilot)
    database = open_database(db if db is not None else default_url(pilot))
    try:
        found = spread_of(read_run(database, load_run(database, pilot).run_id), guess)
    finally:
        database.close()
    return found.spread, (f"spread from {found.votes:,} judgments of {pilot}", *found.notes)


def _lines(found: "Plan", spread: "Spread", tests: int, margin: float) -> list[str]:
    from analysis.planning.precision import variance_terms

    design, outlook = found.design, found.outlook
    terms = variance_terms(design, spread, outlook.effect)
    names = ("concepts", "cases", "comparisons", "participants", "single votes")
    counts = (design.concepts, design.cases, design.comparisons, design.participants, design.judgments)
    parts = [
        f"  {count:>9,} {name:<13}{100 * part / terms.sum():5.1f} % of the variance"
        for name, count, part in zip(names, counts, terms.tolist(), strict=True)
    ]
    per_person = design.judgments * tests / design.participants
    lines = [
        "design of each pair of arms",
        *parts,
        f"  {design.seeds} seeds per case, {design.votes} votes per comparison; {design.judgments * tests:,} judgments in all, "
        f"{per_person:.0f} per participant; cost {found.cost:,.0f} minutes",
        f"standard error of the share of votes: {100 * outlook.standard_error:.1f} points",
        f"  concept floor {100 * outlook.concept_floor:.1f} points: no number of seeds, votes or participants goes below it",
        f"  participant floor {100 * outlook.participant_floor:.1f} points: no number of images or votes goes below it",
        f"95 % interval: ± {100 * outlook.half_width:.1f} points",
        f"power to find {100 * (0.5 + outlook.effect):.1f} % of votes: {outlook.power:.2f}"
        + (f" ({tests} pairs of arms, corrected)" if tests > 1 else ""),
    ]
    if outlook.smallest_effect is not None:
        lines.append(f"found with power .8: {100 * (0.5 + outlook.smallest_effect):.1f} % of votes or more")
    if outlook.power_equivalence is not None:
        lines.append(f"power to show equal arms equivalent within ± {100 * margin:.1f} points: {outlook.power_equivalence:.2f}")
    return lines


def _check(found: "Plan", spread: "Spread", tests: int, studies: int) -> str:
    from analysis.planning.precision import simulate

    seen = simulate(found.design, spread, found.outlook.effect, studies, tests)
    return (
        f"{studies} simulated studies: power {seen.power:.2f}, standard error {100 * seen.standard_error:.1f} points, "
        f"95 % interval ± {100 * seen.half_width:.1f} points"
    )
