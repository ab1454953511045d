"""The command `evalkit plan`: sample size, power and precision of a study, and preregistration of its analysis."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.margin_scale import MarginScale
from evalkit.cli.console import Json

if TYPE_CHECKING:
    from analysis.planning.cheapest_design import Plan
    from analysis.planning.precision import Simulation, Spread


def plan(
    concepts: Annotated[int | None, typer.Option(help="Number of concepts. Default: 30.")] = None,
    pairs: Annotated[int | None, typer.Option(help="Number of cases (sets of concepts). Default: all sets.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds per case. Default: 3.")] = None,
    people: Annotated[int | None, typer.Option(help="Number of participants. Default: 60.")] = None,
    votes: Annotated[int | None, typer.Option(help="Votes per comparison. Default: 5.")] = None,
    together: Annotated[int, typer.Option(help="Concepts per case.")] = 2,
    effect: Annotated[float, typer.Option(help="Effect size: difference from a win rate of 50 %; 0.05 is 55 %.")] = 0.05,
    margin: Annotated[float | None, typer.Option(help="Equivalence margin as a share. Default: 0.05.")] = None,
    margin_scale: Annotated[
        MarginScale | None, typer.Option(help="What the margin is a share of: single votes (default), or majority outcomes.")
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="Find the cheapest design with this power; given options stay fixed.")
    ] = None,
    half_width: Annotated[
        float | None, typer.Option(help="Find the cheapest design whose 95 % interval has at most this half width.")
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="Minutes of work: concept=30, participant=5, judgment=0.1; repeatable.")
    ] = None,
    spread: Annotated[
        list[str] | None,
        typer.Option(help="Standard deviation in logits: concept=0.3, pair=0.3, comparison=0.8, participant=0.5; repeatable."),
    ] = None,
    pilot: Annotated[Path | None, typer.Option(metavar="RUN", help="Estimate the spread from this run's judgments.")] = None,
    db: Annotated[str | None, typer.Option(metavar="URL", help="The pilot's database. Default: RUN/study.db.")] = None,
    simulate: Annotated[int, typer.Option(min=0, help="Simulated studies that check the formula; 0 for none.")] = 200,
    freeze: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the planned analysis to FILE, with a hash (preregistration).")
    ] = None,
    arm: Annotated[list[str] | None, typer.Option(help="An arm that will be compared; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="With --freeze: a metric that will be tested; repeatable.")] = None,
    faster_than_ms: Annotated[int | None, typer.Option(help="With --freeze: exclude judgments given sooner.")] = None,
    fewer_votes_than: Annotated[int | None, typer.Option(help="With --freeze: exclude participants with fewer votes.")] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="With --freeze: a study of simulated participants.")] = False,
    as_json: Json = False,
) -> None:
    """Compute sample size, power and precision before a study, find the cheapest design, and preregister the analysis."""
    from analysis.planning.cheapest_design import Plan, Target, cheapest, cost_of, prices_of
    from analysis.planning.precision import StudyDesign, outlook
    from analysis.planning.preregistration import check_target
    from analysis.votes.preference import margin_of
    from evalkit.cli.console import print_json, stderr, stdout
    from evalkit.errors import UserError
    from evalkit.plural import plural

    width, scale = margin_of(margin, None if margin_scale is None else margin_scale.value)
    if freeze is not None and (arm is None or len(arm) < 2):
        raise UserError("plan: --freeze needs the arms that will be compared; name two or more, each with --arm")
    repeated = [label for label, times in Counter(arm or ()).items() if times > 1]
    if repeated:
        raise UserError(f"--arm {repeated[0]}: is given twice; name each arm once")
    if freeze is not None:
        check_target(freeze)
    tests = len(arm) * (len(arm) - 1) // 2 if arm and len(arm) > 1 else 1
    options = {"concepts": concepts, "pairs": pairs, "seeds": seeds, "participants": people, "votes": votes}
    fixed = {name: value for name, value in options.items() if value is not None}
    spreads, notes = _spread(spread or [], pilot, db)
    prices = prices_of(price or [])
    on_votes = width if scale == MarginScale.VOTES.value else None
    searched = power is not None or half_width is not None
    if searched:
        best = cheapest(Target(effect, power, half_width), spreads, fixed, prices, together, tests)
        planned = Plan(best.cost, best.design, outlook(best.design, spreads, effect, on_votes, tests))
    else:
        design = StudyDesign(together=together, **fixed)
        planned = Plan(cost_of(design, prices, tests), design, outlook(design, spreads, effect, on_votes, tests))
    console = stdout()
    if not as_json:
        first = ("The cheapest design that reaches the target:",) if searched else ()
        for line in (*first, *notes, *_lines(planned, spreads, tests, width)):
            console.print(line, markup=False)
    check = None
    if simulate > 0:
        with stderr().status("simulating"):
            check = _simulated(planned, spreads, tests, simulate)
        if not as_json:
            console.print(
                f"{plural(simulate, 'simulated study', 'simulated studies')}: power {check.power:.2f}, "
                f"standard error {100 * check.standard_error:.1f} points, "
                f"95 % interval ± {100 * check.half_width:.1f} points",
                markup=False,
            )
    frozen = None
    if freeze is not None:
        from analysis.planning.preregistration import VOTES, Exclusions, FrozenPlan
        from analysis.planning.preregistration import freeze as write

        rules = Exclusions(simulated=not simulated, faster_than_ms=faster_than_ms, fewer_votes_than=fewer_votes_than)
        preregistered = FrozenPlan(
            arms=tuple(arm or ()),
            measures=(VOTES, *(metric or ())),
            margin=width,
            margin_scale=scale,
            exclusions=rules,
            design=asdict(planned.design),
        )
        frozen = {"file": freeze, "sha256": write(preregistered, freeze)}
        if not as_json:
            console.print(f"frozen: {freeze} (sha256 {frozen['sha256']})", markup=False)
    if as_json:
        print_json(
            {
                "design": planned.design, "judgments": planned.design.judgments * tests, "pairs_of_arms": tests,
                "cost_minutes": planned.cost, "expected": planned.outlook, "spread": spreads, "notes": notes,
                "simulated": check, "frozen": frozen,
            }
        )  # fmt: skip


def _spread(words: list[str], pilot: Path | None, db: str | None) -> "tuple[Spread, tuple[str, ...]]":
    """Return the standard deviations, from the options or a pilot, and notes on their origin."""
    from analysis.planning.precision import Spread
    from evalkit.errors import UserError
    from evalkit.plural import plural

    defaults = Spread().records()[0]
    given: dict[str, float] = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise UserError(f"spread {word!r}: not a number of logits; write for example concept=0.3") from None
        if name not in defaults:
            raise UserError(f"spread {word!r}: unknown name; use one of {', '.join(defaults)}, for example concept=0.3")
        given[name] = value
    spread = Spread(**{**defaults, **given})  # type: ignore[arg-type] # every field is a float
    if pilot is None:
        return spread, ()
    from analysis.database_rows import read_run
    from analysis.planning.pilot import spread_of
    from db.run_loader import load_run
    from db.session import default_url, open_database
    from evalkit.run.manifest import Manifest

    Manifest.load(pilot)
    database = open_database(db if db is not None else default_url(pilot))
    try:
        estimated = spread_of(read_run(database, load_run(database, pilot).run_id), spread)
    finally:
        database.close()
    return estimated.spread, (f"spread from {plural(estimated.votes, 'judgment')} of {pilot}", *estimated.notes)


def _lines(planned: "Plan", spread: "Spread", tests: int, margin: float) -> list[str]:
    """Return the design, its precision and its power as text."""
    from analysis.planning.precision import variance_terms
    from evalkit.plural import plural

    design, expected = planned.design, planned.outlook
    terms = variance_terms(design, spread, expected.effect)
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
        f"  {plural(design.seeds, 'seed')} per case, {plural(design.votes, 'vote')} per comparison; "
        f"{plural(design.judgments * tests, 'judgment')} in total, {per_person:.0f} per participant; "
        f"cost {planned.cost:,.0f} minutes",
        f"standard error of the share of votes: {100 * expected.standard_error:.1f} points",
        f"  concept floor {100 * expected.concept_floor:.1f} points: more seeds, votes or participants cannot go below it",
        f"  participant floor {100 * expected.participant_floor:.1f} points: more images or votes cannot go below it",
        f"95 % interval: ± {100 * expected.half_width:.1f} points",
        f"power to detect a win rate of {100 * (0.5 + expected.effect):.1f} %: {expected.power:.2f}"
        + (f" ({tests} pairs of arms, corrected)" if tests > 1 else ""),
    ]
    if expected.smallest_effect is not None:
        lines.append(f"smallest win rate detected with power 0.8: {100 * (0.5 + expected.smallest_effect):.1f} %")
    if expected.power_equivalence is not None:
        equal = f"power to show that equal arms are equivalent within ± {100 * margin:.1f} points"
        lines.append(f"{equal}: {expected.power_equivalence:.2f}")
    return lines


def _simulated(planned: "Plan", spread: "Spread", tests: int, studies: int) -> "Simulation":
    from analysis.planning.precision import simulate

    return simulate(planned.design, spread, planned.outlook.effect, studies, tests)
