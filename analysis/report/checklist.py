"""What a reader must know of a human evaluation to trust and repeat it.

The points are those of the reporting template of Otani et al. 2023 (CVPR, arXiv 2304.01816), which found them missing in most
of 37 text-to-image papers: who was recruited, paid and instructed how, what they saw and were asked, how many judged each
image, how far they agreed, who was left out. What the database contains is answered; the rest is marked for the authors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.findings import Findings
from analysis.number_format import count, counted, number
from evalkit.plural import plural

ASK = "For the authors to state: "
SOURCES = {"prolific": "Prolific", "mturk": "Amazon Mechanical Turk", "open": "an open link"}
CHECKS = {
    "attention": "attention checks", "gold": "comparisons of known answer", "null_pairs": "pairs of equal images",
    "repeats": "repeated comparisons",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the checklist. `stated` is False if only the authors know the answer, or a part of it."""

    topic: str
    answer: str
    stated: bool = True


def checklist(findings: Findings) -> tuple[Point, ...]:
    """Return the checklist of a run, filled in as far as the database allows; empty without judgments."""
    votes = _votes(findings)
    if votes.empty:
        return ()
    return (*_people(findings, votes), *_task(findings), *_answers(findings, votes))


def _votes(findings: Findings) -> pd.DataFrame:
    """Return the judgments of two images and of several, one row each."""
    columns = ["comparison", "participant", "reaction_ms"]
    parts = [frame[columns] for frame in (findings.data.judgments, findings.data.several) if len(frame)]
    return pd.concat(parts) if parts else findings.data.judgments[columns]


def _people(findings: Findings, votes: pd.DataFrame) -> Iterator[Point]:
    data = findings.data
    if findings.simulated and not data.real:
        yield Point("recruitment, qualification and pay", "No one was recruited: all participants are simulated.")
    else:
        source = SOURCES.get(str(_part(findings, "entry").get("recruitment")))
        through = f"Participants came through {source}. " if source else ""
        yield Point("recruitment", f"{through}{ASK}who was asked, when, and in which words.", False)
        yield Point("qualification", f"{ASK}who was allowed in, and how that was checked.", False)
        yield Point("pay", f"{ASK}what participants were paid, and for how long.", False)
        yield Point("consent and ethics", f"{ASK}what participants agreed to, and who approved the study.", False)
    people = votes.groupby("participant").size()
    simulated = f" ({count(data.simulated)} of {plural(len(votes), 'vote')} simulated)" if findings.simulated else ""
    gave = f"who gave {_range(people.min(), people.max())} votes each"
    yield Point("number of participants", f"{count(len(people))}, {gave}{simulated}.")


def _task(findings: Findings) -> Iterator[Point]:
    data = findings.data
    several = len(data.several) > 0
    what = "Images of one case and seed, each from another arm" if several else "Two images of one case and seed from two arms"
    yield Point(
        "what was shown",
        f"{what}, of {plural(len(data.arms), 'arm')} in all, next to references; {counted(len(data.cases), 'case')}, "
        f"{counted(len(data.images), 'image')}. Arms were hidden.",
    )
    if findings.titles.questions.get("overall"):
        yield Point("question", findings.titles.questions["overall"])
    choose = "Choose the left or the right image"
    if several:
        choose = "Rank all images" if data.design.get("answer") == "ranking" else "Pick the best image"
    neither = "or choose that they cannot be distinguished" if data.design.get("cannot_tell") else "without a way to abstain"
    yield Point("task and scale", f"{choose}, {neither}: relative judgments, not ratings.")
    language = data.design.get("language")
    wording = f"those of the study's text `{language}`, unless a separate text was given" if language else "not recorded"
    sentences = _sentences(data.design)
    if sentences:
        yield Point("instructions and question", sentences)
    else:
        yield Point(
            "instructions and question", f"Instructions: {wording}. {ASK}their words, and a training if there was one.", False
        )
    yield Point("interface", f"{ASK}a screenshot of the page as it was shown.", False)
    checks = _part(findings, "checks")
    held = [f"{words} ({checks[name]:g})" for name, words in CHECKS.items() if checks.get(name)]
    yield Point(
        "checks of attention", f"Per comparison judged: {', '.join(held)}." if held else "None were among the comparisons."
    )


def _sentences(design: Mapping[str, Any]) -> str:
    """Return question, instructions and consent as participants read them; empty for designs stored without them."""
    languages = design.get("wording", {}).get("languages", {})
    words = languages.get(design.get("language"), {})
    if not words:
        return ""
    kind = "pair" if design.get("at_once", 2) == 2 else "ranking" if design.get("answer") == "ranking" else "best"
    asked = words["questions"][kind]
    return (
        f"Questions (cases of one, two, more and no concepts): “{asked['one']}”, “{asked['two']}”, “{asked['more']}”, "
        f"“{asked['none']}”. Instructions: {' '.join(words['instructions'][kind])} "
        f"Consent: {' '.join(words['consent']['body'])} "
        f"Languages offered: {', '.join(languages)}; all sentences are in the export's design.json, under the design's hash."
    )


def _answers(findings: Findings, votes: pd.DataFrame) -> Iterator[Point]:
    data = findings.data
    per_comparison = votes.groupby("comparison").size()
    yield Point(
        "votes per comparison",
        f"{_range(per_comparison.min(), per_comparison.max())} on {count(len(per_comparison))} of "
        f"{plural(data.planned, 'planned comparison')}.",
    )
    if not data.sides_known:
        sides = "The imported votes do not state which image was on which side, so no side effect is estimated."
    elif len(data.judgments):
        left = data.judgments["left"] == data.judgments["first"]
        sides = f"Randomized and recorded for every vote; the earlier arm was on the left in {number(100 * left.mean(), 1)} %."
    else:
        sides = "Positions on the page were randomized and recorded for every vote."
    yield Point("sides and order", sides)
    times = pd.to_numeric(votes["reaction_ms"]).dropna()
    if len(times):
        low, middle, high = (number(value / 1000, 1) for value in times.quantile([0.25, 0.5, 0.75]))
        yield Point("time per judgment", f"Median {middle} s (quartiles {low} to {high} s).")
    else:
        yield Point("time per judgment", "Was not recorded.")
    alphas = [
        f"{number(agreement.alpha, 2)} ({preference.first} vs {preference.second})"
        for preference, agreement in zip(findings.preferences, findings.agreements, strict=True)
        if agreement.alpha is not None
    ]
    undefined = (
        "Undefined; the table of agreement states why." if len(data.judgments) else "Not computed for several images at once."
    )
    yield Point("agreement", f"Krippendorff's α: {', '.join(alphas)}." if alphas else undefined)
    rules = [
        name.replace("_", " ") for name, value in _part(findings, "rules").items() if name != "after" and value is not None
    ]
    fixed = f"Rules fixed beforehand: {', '.join(rules)}." if rules else "No rule was fixed beforehand."
    out = f"{counted(data.people_left_out, 'participant')} left out" if data.people_left_out else "No one was left out"
    yield Point("exclusions", f"{fixed} {out}. Of votes, see Exclusions.")
    for amendment in data.amendments:
        yield Point("amendment", amendment)
    yield Point("tests and uncertainty", "Every verdict with interval, p, correction and what it holds for; see Methods.")
    yield Point("data", "`evalkit study export` writes every judgment with the sha256 of its images.")


def exclusions(findings: Findings) -> tuple[str, ...]:
    """Return everything that is in the database or was planned, and is not in the results."""
    data, reasons = findings.data, []
    if data.people_left_out:
        reasons.append(f"{counted(data.people_left_out, 'participant')} with all their votes, by the rules of the study.")
    if data.surplus:
        reasons.append(f"{plural(data.surplus, 'surplus vote')}, given after their place was taken.")
    if data.simulated_left_out:
        reasons.append(f"{plural(data.simulated_left_out, 'vote')} of simulated participants, as asked for.")
    reasons += data.excluded
    missing = data.planned - _votes(findings)["comparison"].nunique()
    if missing:
        reasons.append(f"Without a vote so far: {count(missing)} of {plural(data.planned, 'planned comparison')}.")
    undecided = sum(model.cannot_tell for model in findings.models)
    if undecided:
        reasons.append(
            f"{plural(undecided, 'vote')} without a preference: half a vote each in shares, left out of the mixed model."
        )
    reasons += [
        f"{metric.metric}: {plural(metric.left_out, 'case and seed', 'cases and seeds')} in which an arm has no score."
        for metric in findings.metrics
        if metric.left_out
    ]
    return tuple(reasons)


def _part(findings: Findings, name: str) -> dict[str, object]:
    """Return a table of the study's design; empty without one."""
    held = findings.data.design.get(name)
    return held if isinstance(held, dict) else {}


def _range(low: int, high: int) -> str:
    return count(int(low)) if low == high else f"{count(int(low))} to {count(int(high))}"
