"""What a reader must know of a human evaluation to trust and repeat it.

The points are those that Otani et al. 2023 (CVPR, arXiv 2304.01816) found missing in most of 37 text-to-image papers: who
judged, what they were asked and paid, how many judged each image, how far they agreed, who was left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from analysis.findings import Findings
from analysis.numbers import count, number

ASK = "For the authors to state: "


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the checklist. `stated` is False where only the authors know the answer."""

    topic: str
    answer: str
    stated: bool = True


def checklist(found: Findings) -> tuple[Point, ...]:
    """Return the checklist of a run, filled in as far as the database knows; empty without judgments."""
    return tuple(_points(found)) if len(found.data.judgments) else ()


def _points(found: Findings) -> Iterator[Point]:
    data, votes = found.data, found.data.judgments
    people = votes.groupby("participant").size()
    per_comparison = votes.groupby("comparison").size()
    if found.simulated and not data.real:
        yield Point("recruitment, qualification and pay", "Nobody was recruited: all participants are simulated.")
    else:
        yield Point("recruitment and qualification", f"{ASK}where participants came from, and who was allowed in.", False)
        yield Point("pay", f"{ASK}what participants were paid, and for how long.", False)
        yield Point("consent and ethics", f"{ASK}what participants agreed to, and who approved the study.", False)
    yield Point(
        "number of participants",
        f"{count(len(people))}, who gave {_range(people.min(), people.max())} votes each"
        f" ({count(data.simulated)} of {count(len(votes))} votes are simulated)." if found.simulated
        else f"{count(len(people))}, who gave {_range(people.min(), people.max())} votes each.",
    )  # fmt: skip
    yield Point(
        "votes per comparison",
        f"{_range(per_comparison.min(), per_comparison.max())} on {count(len(per_comparison))} of {count(data.planned)} planned"
        " comparisons.",
    )
    yield Point(
        "what was shown",
        f"Two images of one case and seed from two of {len(data.arms)} arms, beside references; "
        f"{count(len(data.cases))} cases, {count(len(data.images))} images. Arms were hidden.",
    )
    neither = "or that they can't tell" if data.design.get("cannot_tell") else "without a way to abstain"
    yield Point("task", f"Choose the left or the right image, {neither}: relative judgments, not ratings.")
    language = data.design.get("language")
    wording = f"those of the study's text `{language}`, unless a text of its own was given" if language else "not recorded"
    yield Point("instructions and interface", f"Instructions: {wording}. {ASK}a screenshot of the page as it was shown.", False)
    left = votes["left"] == votes["first"]
    yield Point(
        "sides", f"The side was recorded with every vote; the earlier arm stood left in {number(100 * left.mean(), 1)} %."
    )
    times = votes["reaction_ms"].dropna()
    if len(times):
        low, middle, high = (number(value / 1000, 1) for value in times.quantile([0.25, 0.5, 0.75]))
        yield Point("time per judgment", f"Median {middle} s (quartiles {low} to {high} s).")
    alphas = [
        f"{number(each.alpha, 2)} ({preference.first} vs {preference.second})"
        for preference, each in zip(found.preferences, found.agreements, strict=True)
        if each.alpha is not None
    ]
    yield Point(
        "agreement", f"Krippendorff's α: {', '.join(alphas)}." if alphas else "Undefined; the table of agreement says why."
    )
    yield Point("exclusions", "Listed above under Exclusions.")
    yield Point("tests and uncertainty", "Every verdict with interval, p, correction and what it holds for; see Methods.")
    yield Point("data", "`evalkit study export` writes every judgment with the sha256 of both images.")


def exclusions(found: Findings) -> tuple[str, ...]:
    """Return everything that is in the database or was planned, and is not in the results."""
    data, said = found.data, []
    if data.surplus:
        said.append(f"{count(data.surplus)} surplus votes, given after their place was taken.")
    if data.simulated_left_out:
        said.append(f"{count(data.simulated_left_out)} votes of simulated participants, as asked for.")
    said += data.excluded
    missing = data.planned - data.judgments["comparison"].nunique()
    if missing:
        said.append(f"{count(missing)} of {count(data.planned)} planned comparisons have no vote yet.")
    undecided = sum(model.cannot_tell for model in found.models)
    if undecided:
        said.append(f"{count(undecided)} votes that could not tell: half a vote each in shares, left out of the mixed model.")
    said += [
        f"{metric.metric}: {count(metric.left_out)} cases and seeds where an arm has no score."
        for metric in found.metrics
        if metric.left_out
    ]
    return tuple(said)


def _range(low: int, high: int) -> str:
    return count(int(low)) if low == high else f"{count(int(low))} to {count(int(high))}"
