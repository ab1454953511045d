"""Can a classifier tell checks from comparisons, or arms apart, from what a browser receives without its pixels?

    python -m benchmarks.study_blinding [--sessions 200] [--pages 8]

Sessions judge a study with null pairs, attention checks, repeats and further questions. Of every page the classifier gets URLs,
tokens, keys, texts, sizes, order, preloading, headers and lengths of images; with `turn_ms` also how long the page took. A
ridge logistic regression, fitted without the session it predicts, must do no better than chance: the interval of its AUC over
sessions must contain .5. Arms are held to the same.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from db.models import Assignment
from db.session import Database, default_url, open_database, read, write
from db.utc import utc_now
from study_app.plan.blinding import FOLDER
from study_app.plan.design import Checks, Design
from study_app.plan.initialize import begin_study
from study_app.service.participants import Mark, add_participant
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from study_app.service.view_models import TrialPage
from study_app.web.even_pace import evenly
from study_app.web.security import SecurityHeaders
from study_app.web.server import own_routes
from tests.runs import make_run

Array = NDArray[np.float64]
ARMS = ("plain", "fancy")
FOLDS, RIDGE, RESAMPLES = 10, 1.0, 1000
STEPS: tuple[Mark, ...] = ("consented_at", "instructed_at", "practiced_at")
DESIGN = Design(
    per_comparison=1000,
    cannot_tell=True,
    checks=Checks(null_pairs=0.2, attention=0.2, repeats=0.2),
)


@dataclass(frozen=True)
class Observations:
    """Pages in rows: features, their session, whether the page is a check, and which arm is left (NaN for a check)."""

    names: tuple[str, ...]
    features: Array
    session: NDArray[np.int64]
    is_check: NDArray[np.bool_]
    left_is_first_arm: Array

    def without(self, name: str) -> Array:
        """Return the features without one of them."""
        return self.features[:, [index for index, other in enumerate(self.names) if other != name]]


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve with a 95 % interval from resampled sessions."""

    value: float
    low: float
    high: float

    @property
    def is_chance(self) -> bool:
        """Return whether the interval contains .5."""
        return self.low <= 0.5 <= self.high

    @property
    def beats_chance(self) -> bool:
        """Return whether the interval is above .5.

        With few sessions the AUC of arms falls below .5, since sides are balanced within a comparison: what others saw on the
        left predicts the opposite.
        """
        return self.low > 0.5


def observe(database: Database, run: Path, sessions: int, pages: int, with_images: bool = True) -> Observations:
    """Let sessions judge pages of the study of a run, and return what a browser receives."""
    service = StudyService(database, run)
    routes = Starlette(routes=own_routes(service), middleware=[Middleware(SecurityHeaders)])
    features: list[dict[str, float]] = []
    session, is_check, arms = [], [], []
    with TestClient(routes) as client:
        for number in range(sessions):
            with write(database) as transaction:
                who, token = add_participant(transaction, service.study_id, utc_now(), seed=number)
            client.cookies.set(service.blinding.cookie_name(), token)
            for step in STEPS:
                service.finish_step(who.id, step)
            previous: TrialPage | None = None
            trial = service.trial(who.id)
            turn_ms = float("nan")
            for _ in range(pages):
                if trial is None:
                    break
                row = {"turn_ms": turn_ms, **_of_page(trial, previous)}
                if with_images:
                    row |= _of_images(client, trial)
                features.append(row)
                session.append(number)
                is_check.append(trial.kind == "check")
                arms.append(_left(database, trial))
                previous = trial
                start = time.perf_counter()
                turn = evenly(partial(service.answer_and_turn, who.id, trial, trial.places[number % 2], Timing()))[1]
                turn_ms, trial = 1000 * (time.perf_counter() - start), turn.trial
    names = tuple(features[0])
    table = np.array([[row[name] for name in names] for row in features])
    # the first page of a session follows no answer
    table[np.isnan(table)] = np.nanmedian(table[:, names.index("turn_ms")])
    return Observations(names, table, np.array(session), np.array(is_check), np.array(arms))


def fix_secret(run: Path) -> None:
    """Give a run a known secret, so that the same sessions have the same URLs."""
    (run / FOLDER).mkdir(exist_ok=True)
    (run / FOLDER / "secret").write_text("0f" * 32)


def cross_validated_auc(features: Array, labels: NDArray[np.bool_], session: NDArray[np.int64], seed: int = 0) -> Auc:
    """Return the AUC of a ridge logistic regression that never saw the session it predicts."""
    rng = np.random.default_rng(seed)
    people = rng.permutation(np.unique(session))
    scores = np.zeros(len(labels))
    for fold in np.array_split(people, min(FOLDS, len(people))):
        test = np.isin(session, fold)
        mean, spread = features[~test].mean(axis=0), features[~test].std(axis=0)
        scaled = (features - mean) / np.where(spread > 0, spread, 1.0)
        weights = _fit(scaled[~test], labels[~test].astype(float))
        # within a fold, ranks: folds have other intercepts
        values = scaled[test] @ weights[1:]
        scores[test] = values.argsort().argsort() / max(1, test.sum())
    draws = []
    for _ in range(RESAMPLES):
        counts = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))
        weight = counts[np.searchsorted(np.sort(people), session)].astype(float)
        draws.append(_auc(scores, labels, weight))
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Auc(_auc(scores, labels, np.ones(len(labels))), float(low), float(high))


def _of_page(trial: TrialPage, previous: TrialPage | None) -> dict[str, float]:
    """Return what the page itself tells, as numbers."""
    references = [url for concept in trial.concepts for url in concept.references]
    urls = [*trial.images, *references]
    preloaded = () if previous is None else previous.upcoming
    words = sum(len(concept.word) for concept in trial.concepts)
    return {
        "concepts": len(trial.concepts), "words": words, "references": len(references), "width": trial.size[0],
        "height": trial.size[1], "places": len(trial.places), "done": trial.done - (previous.done if previous else 0),
        "total": trial.total - (previous.total if previous else trial.total),
        "percent_done": trial.done / max(trial.total, 1),
        "minutes": trial.minutes_left or 0, "has_minutes": trial.minutes_left is not None,
        "preloaded_share": sum(url in preloaded for url in urls) / len(urls) if previous else 1.0,
        "preloaded_images": sum(url in preloaded for url in trial.images) if previous else len(trial.images),
        "preload_count": len(trial.upcoming), "preload_first": _nibble(trial.upcoming[0]) if trial.upcoming else 0,
        "distinct_urls": len(set(urls)), "url_length": sum(map(len, urls)) / len(urls), "key_length": len(trial.key),
        "key": _nibble(trial.key), "left_token": _nibble(trial.images[0]), "right_token": _nibble(trial.images[1]),
        "tokens_in_order": trial.images[0] < trial.images[1], "question": trial.question != "overall",
    }  # fmt: skip


def _of_images(client: TestClient, trial: TrialPage) -> dict[str, float]:
    """Return headers and lengths of a page's images; what the padding hides is in the lengths."""
    answers = [client.get(url) for url in trial.images]
    return {
        "left_bytes": len(answers[0].content), "right_bytes": len(answers[1].content),
        "byte_difference": len(answers[0].content) - len(answers[1].content),
        "header_count": sum(len(answer.headers) for answer in answers),
        "header_length": sum(len(name) + len(value) for answer in answers for name, value in answer.headers.items()),
        "status": sum(answer.status_code for answer in answers),
        "equal_bytes": answers[0].content == answers[1].content,
    }  # fmt: skip


def _nibble(text: str) -> float:
    return float(int(text.removeprefix("/i/")[0], 16))


def _left(database: Database, trial: TrialPage) -> float:
    """Return 1 if the first arm is left, 0 if the other is, NaN for a check."""
    if trial.kind == "check":
        return float("nan")
    with read(database) as session:
        return float(session.get_one(Assignment, trial.owner).left == 0)


def _fit(features: Array, labels: Array) -> Array:
    """Return intercept and weights of a ridge logistic regression (Newton's method)."""
    design = np.column_stack([np.ones(len(features)), features])
    weights, penalty = np.zeros(design.shape[1]), RIDGE * np.eye(design.shape[1])
    penalty[0, 0] = 1e-6
    for _ in range(15):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + penalty
        weights = weights + np.linalg.solve(curvature, design.T @ (labels - chance) - penalty @ weights)
    return weights


def _auc(scores: Array, labels: NDArray[np.bool_], weight: Array) -> float:
    """Return the weighted probability that a positive scores above a negative, ties half (Mann and Whitney 1947)."""
    levels, level = np.unique(scores, return_inverse=True)
    positive = np.bincount(level, weight * labels, len(levels))
    negative = np.bincount(level, weight * ~labels, len(levels))
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the AUCs; return 1 if one of them is not chance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--pages", type=int, default=8)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make_run(run, arms=ARMS, concepts=3, scores=False)
        fix_secret(run)
        database = open_database(default_url(run))
        try:
            begin_study(database, run, DESIGN)
            seen = observe(database, run, options.sessions, options.pages)
        finally:
            database.close()
    compared = ~seen.is_check
    results = {
        "checks": cross_validated_auc(seen.without("turn_ms"), seen.is_check, seen.session),
        "checks, with turn_ms": cross_validated_auc(seen.features, seen.is_check, seen.session),
        "arms": cross_validated_auc(
            seen.without("turn_ms")[compared], seen.left_is_first_arm[compared] == 1, seen.session[compared]
        ),
    }
    print(f"{options.sessions} sessions, {len(seen.session)} pages, {seen.is_check.mean():.0%} checks")
    for name, auc in results.items():
        print(f"AUC of {name}: {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})")
    return 0 if all(auc.is_chance for auc in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
