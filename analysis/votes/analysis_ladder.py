"""One question, seven analyses: which arm people prefer, from the papers' test to models of all that recurs.

Every rung states what it treats as a random sample. The verdicts rest on rung D; the others show what that choice costs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA, Contrast
from analysis.inference.bootstrap import crossed_weights, percentile_interval
from analysis.inference.concept_sets import MIN_CONCEPTS, Codes
from analysis.inference.dyadic_standard_errors import cluster_meat, correct
from analysis.inference.glmm import INTERCEPT
from analysis.inference.mean_contrast import t_contrast
from analysis.results import Result
from analysis.votes.preference import CANNOT_TELL, SCALES, Votes, clustered_preference, naive_preference
from analysis.votes.vote_models import VoteModel, vote_model

DRAWS = 999
SEED = 20_11
LOGIT = "log odds of a vote for the first arm"
# A standard error of rounding only.
LEAST_ERROR = 1e-9
ALIKE = "All clusters have the same mean, so no error can be estimated."


@dataclass(frozen=True, slots=True)
class Rung(Result):
    """One analysis of the ladder: its letter, what it does, and when its error is right."""

    rung: str
    analysis: str
    holds_when: str
    contrast: Contrast


def ladder(votes: Votes, draws: int = DRAWS, seed: int = SEED, model: VoteModel | None = None) -> tuple[Rung, ...]:
    """Return all analyses of one pair of arms, A to G; the same seed gives the same intervals.

    `model` is the mixed model of these votes, if it was fitted already.
    """
    default = "dyadic + participant" if votes.sets.generalises else "clustered by the levels that generalize"
    mixed = partial(_mixed, model=model)
    pigeonhole = partial(_bootstrap, draws=draws, seed=seed, concepts=False)
    crossed = partial(_bootstrap, draws=draws, seed=seed, concepts=True)
    rungs: tuple[tuple[str, str, str, Callable[[Votes], Contrast]], ...] = (
        (
            "A",
            "exact binomial test of majority outcomes",
            "comparisons are independent; naive, wrong too often",
            naive_preference,
        ),
        ("B", "share of votes, clustered by concept set", "participants are interchangeable; else wrong too often", _one_way),
        (
            "C",
            "share of votes, clustered by concept set and participant",
            "no concept recurs in another set; else wrong too often",
            _two_way,
        ),
        ("D", f"share of votes, {default}, max-rule (default)", "always, with enough concepts", clustered_preference),
        (
            "E",
            "logistic mixed model, crossed effects",
            "effects are normal on the log odds, with many levels; else wrong too often",
            mixed,
        ),
        (
            "F",
            "GEE, exchangeable within concept sets",
            "nothing but concept sets recurs, in many sets; else wrong too often",
            _gee,
        ),
        ("G", "bootstrap, concept sets x participants", "no concept recurs in another set; cautious", pigeonhole),
        ("G", "bootstrap, concepts x participants", "always, with enough concepts; cautious", crossed),
    )
    return tuple(Rung(letter, name, holds, analyse(votes)) for letter, name, holds, analyse in rungs)


def _empty(votes: Votes, scale: str = SCALES["votes"], null: float = 0.5) -> Contrast:
    share = float(votes.choice.mean()) if len(votes.choice) else None
    return Contrast(votes.first, votes.second, "votes", scale, share, null, None, None, len(votes.choice), (), "none", ())


def _why_none(votes: Votes, sets: bool = True, participants: bool = False) -> str:
    """Return why a rung has no error here, or nothing."""
    if not len(votes.choice):
        return "There are no judgments."
    if float(np.ptp(votes.choice)) == 0.0:
        return "All votes are the same; rung D states what that allows."
    if sets and len(np.unique(votes.sets.codes)) < 2:
        return "All rows are about the same concepts, so there are no clusters."
    return "One participant judged." if participants and len(np.unique(votes.participant)) < 2 else ""


def _absent(contrast: Contrast, why: str) -> Contrast:
    return replace(contrast, notes=(why,))


def _variance(votes: Votes, codes: Codes) -> float:
    residuals = votes.choice - votes.choice.mean()
    return correct(cluster_meat(residuals, codes), len(np.unique(codes))) / len(residuals) ** 2


def _one_way(votes: Votes) -> Contrast:
    contrast, why = _empty(votes), _why_none(votes)
    if why:
        return _absent(contrast, why)
    sets = len(np.unique(votes.sets.codes))
    contrast = replace(contrast, scope=("seeds", votes.sets.word), clusters=((votes.sets.word, sets),))
    return _with_error(contrast, _variance(votes, votes.sets.codes), sets - 1, "t, clustered")


def _two_way(votes: Votes) -> Contrast:
    contrast, why = _empty(votes), _why_none(votes, participants=True)
    if why:
        return _absent(contrast, why)
    both = np.unique(votes.participant * (int(votes.sets.codes.max()) + 1) + votes.sets.codes, return_inverse=True)[1]
    by_set, by_person = _variance(votes, votes.sets.codes), _variance(votes, votes.participant)
    total = by_set + by_person - _variance(votes, both.astype(np.int64))
    sets, people = len(np.unique(votes.sets.codes)), len(np.unique(votes.participant))
    scope = ("seeds", votes.sets.word, "participants")
    contrast = replace(contrast, scope=scope, clusters=((votes.sets.word, sets), ("participants", people)))
    # the sum of the three can be too small, even negative (Cameron, Gelbach and Miller 2011, section 2.3)
    variance = total if total > 0 else max(by_set, by_person)
    return _with_error(contrast, variance, min(sets, people) - 1, "t, two-way clustered")


def _with_error(contrast: Contrast, variance: float, df: int, test: str) -> Contrast:
    if variance <= LEAST_ERROR**2:
        return _absent(contrast, ALIKE)
    return t_contrast(contrast, float(np.sqrt(variance)), df, test, (0.0, 1.0))


def _mixed(votes: Votes, model: VoteModel | None = None) -> Contrast:
    contrast = replace(_empty(votes, LOGIT, 0.0), estimate=None)
    if not len(votes.choice):
        return _absent(contrast, "There are no judgments.")
    model = vote_model(votes) if model is None else model
    if model.fit is None:
        return _absent(contrast, model.note)
    effect = model.fit.small_sample_effect(INTERCEPT)
    words = {"comparison": "seeds", "pair": "pairs", "concept set": "concept sets", "concept": "concepts"}
    names = [component.name for component in model.fit.components]
    scope = tuple(words.get(name, "participants") for name in names)
    clusters = tuple((f"{component.name}s", component.levels) for component in model.fit.components)
    return replace(
        contrast, estimate=effect.estimate, interval=effect.interval, p=effect.p, standard_error=effect.standard_error,
        n=model.fit.rows, df=float(model.fit.df), test=f"t, Laplace approximation, df {model.fit.df}", scope=scope,
        clusters=clusters,
    )  # fmt: skip


def _gee(votes: Votes) -> Contrast:
    contrast, why = replace(_empty(votes, LOGIT, 0.0), estimate=None), _why_none(votes)
    if why:
        return _absent(contrast, why)
    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_estimating_equations import GEE

    decided = votes.choice != CANNOT_TELL
    groups = votes.sets.codes[decided]
    if not decided.any() or float(np.ptp(votes.choice[decided])) == 0.0 or len(np.unique(groups)) < 2:
        return _absent(contrast, "The decided votes are all the same, or of one concept set.")
    order = np.argsort(groups, kind="stable")
    y = votes.choice[decided][order]
    fit = GEE(y, np.ones((len(y), 1)), groups[order], family=Binomial(), cov_struct=Exchangeable()).fit()
    estimate, error, half = float(fit.params[0]), float(fit.bse[0]), float(stats.norm.isf(ALPHA / 2))
    if error <= LEAST_ERROR:
        return _absent(contrast, ALIKE)
    return replace(
        contrast, estimate=estimate, interval=(estimate - half * error, estimate + half * error), standard_error=error,
        p=float(2 * stats.norm.sf(abs(estimate) / error)), n=len(y), test="normal, GEE",
        scope=("seeds", votes.sets.word), clusters=((votes.sets.word, len(np.unique(groups))),),
    )  # fmt: skip


def _bootstrap(votes: Votes, draws: int, seed: int, concepts: bool) -> Contrast:
    contrast, why = _empty(votes), _why_none(votes, participants=True)
    if not why and concepts and not votes.sets.generalises:
        why = f"The concepts cannot represent others ({MIN_CONCEPTS} or more are needed, and sets that do not share one)."
    if why:
        return _absent(contrast, why)
    rng = np.random.default_rng(seed)
    weights = crossed_weights(votes.sets, draws, rng, votes.participant, concepts)
    means = np.array([float(weight @ votes.choice / weight.sum()) for weight in weights])
    if float(np.ptp(means)) <= LEAST_ERROR:
        return _absent(contrast, ALIKE)
    tail = min(int(np.sum(means <= contrast.null)), int(np.sum(means >= contrast.null)))
    people = ("participants", len(np.unique(votes.participant)))
    level = ("concepts", votes.sets.concepts) if concepts else (votes.sets.word, len(votes.sets.members))
    scope = ("seeds", votes.sets.word, *(("concepts",) if concepts else ()), "participants")
    return replace(
        contrast, interval=percentile_interval(means), p=min(1.0, 2.0 * (tail + 1) / (draws + 1)),
        standard_error=float(means.std(ddof=1)), test=f"percentiles of {draws} draws", scope=scope, clusters=(level, people),
    )  # fmt: skip
