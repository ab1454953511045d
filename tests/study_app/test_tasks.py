"""Further questions, checks, minimum viewing time and rests: what a participant is asked, and when."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db.models import Answer, Check, Judgment, StoredImage
from db.session import read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.plan.check_schedule import checks_before
from study_app.plan.design import Checks, Design, Gold, Sessions
from study_app.plan.texts import ALSO_ASK, FurtherQuestions
from study_app.service import tasks
from study_app.service.record_judgment import Recorded, Timing
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.study_app.conftest import begin

GOLD = (Gold(case="star-ring", seed=0, better="fancy", worse="plain"),)
ALL_CHECKS = Checks(null_pairs=0.5, repeats=0.2, attention=0.25, gold=0.5)


def walk(service, participant, choose=lambda trial: "left"):
    """Answer everything there is and return what was asked."""
    asked = []
    while (trial := service.trial(participant)) is not None:
        asked.append((trial.kind, trial.question))
        assert service.answer(participant, trial, choose(trial), Timing(reaction_ms=900)) is Recorded.STORED
        # a second click changes nothing
        assert service.answer(participant, trial, "right", Timing()) in (Recorded.ALREADY,)
    return asked


def test_every_question_is_asked_of_every_comparison(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(also_ask=ALSO_ASK))
    service, participant = StudyService(database, study.run), study.join()
    asked = walk(service, participant)
    names = ["overall", "concept 0", "concept 1", *FurtherQuestions.model_fields]
    assert [question for _, question in asked[: len(names)]] == names
    assert Counter(question for _, question in asked) == dict.fromkeys(names, study.comparisons)
    with read(database) as session:
        assert len(session.scalars(select(Judgment)).all()) == study.comparisons
        assert {row.reaction_ms for row in session.scalars(select(Answer))} == {900}


def test_a_further_question_shows_the_same_images_and_needs_a_judgment_first(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(also_ask=("quality",)))
    service = StudyService(database, study.run)
    token = service.join()
    participant = service.visitor(token).id
    first = service.trial(participant)
    service.answer(participant, first, "left", Timing())
    second = service.trial(participant)
    assert (second.question, *second.images) == ("quality", *first.images)
    assert second.key != first.key
    assert service.stimulus(token, second.images[0].removeprefix("/i/"))
    with pytest.raises(UserError, match="is not one this participant has judged"):
        service.answer(study.join(), second, "left", Timing())


def test_checks_come_at_their_rate_fill_no_place_and_know_what_is_right(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(checks=ALL_CHECKS, gold=GOLD))
    service, participant = StudyService(database, study.run), study.join(seed=3)
    asked = walk(service, participant)
    with read(database) as session:
        checks = session.scalars(select(Check)).all()
        by_kind = Counter(check.kind for check in checks)
        assert by_kind == Counter(checks_before(service.design, 3, study.comparisons))
        assert by_kind.keys() == {"null_pair", "gold", "repeat", "attention"}
        assert {check.expected for check in checks if check.kind != "null_pair"} <= {"left", "right"}
        assert all(check.left_image_id == check.right_image_id for check in checks if check.kind == "null_pair")
        gold = next(check for check in checks if check.kind == "gold")
        better = gold.left_image if gold.expected == "left" else gold.right_image
        assert session.get_one(StoredImage, better.id).arm.label == "fancy"
        for check in checks:
            if check.kind == "repeat":
                assert check.expected == "right"
        assert len(session.scalars(select(Judgment)).all()) == study.comparisons
    assert Counter(kind for kind, _ in asked) == {"comparison": study.comparisons, "check": len(checks)}


def test_a_check_looks_like_any_other_page(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(checks=ALL_CHECKS, gold=GOLD))
    service = StudyService(database, study.run)
    token = service.join()
    participant = service.visitor(token).id
    done = []
    while (trial := service.trial(participant)) is not None:
        done.append(trial.done)
        assert len(trial.key) == 12
        assert "check" not in trial.key
        assert service.stimulus(token, trial.images[0].removeprefix("/i/"))
        assert service.stimulus(token, trial.images[1].removeprefix("/i/"))
        assert trial.images[0] != trial.images[1]
        service.answer(participant, trial, "left", Timing())
    # the bar moves by one for each of them
    assert done == list(range(len(done)))
    assert trial is None


def test_the_next_images_can_be_fetched_early(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design())
    service = StudyService(database, study.run)
    token = service.join()
    participant = service.visitor(token).id
    service.finish_step(participant, "practiced_at")
    first = service.trial(participant)
    early = {url: service.stimulus(token, url.removeprefix("/i/")) for url in first.upcoming}
    assert all(early.values())
    assert list(first.upcoming) == sorted(first.upcoming)
    assert service.stimulus(service.join(), first.upcoming[0].removeprefix("/i/")) is None
    service.answer(participant, first, "left", Timing())
    second = service.trial(participant)
    assert set(second.images) <= set(early)
    assert service.stimulus(token, second.images[0].removeprefix("/i/")) == early[second.images[0]]


def test_how_much_there_is_stays_while_places_are_taken(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=1))
    service, participant, seen = StudyService(database, study.run), study.join(), []
    trial = service.trial(participant)
    while trial is not None:
        again = service.trial(participant)
        assert (again.done, again.total) == (trial.done, trial.total)
        seen.append((trial.done, trial.total))
        trial = service.answer_and_turn(participant, trial, "left", Timing())[1].trial
    assert seen == [(done, study.comparisons) for done in range(study.comparisons)]


def test_an_answer_sooner_than_the_design_allows_is_not_taken(database, tmp_path: Path) -> None:
    from db.models import Assignment

    study = begin(database, tmp_path / "run", Design(minimum_seconds=5))
    service, participant = StudyService(database, study.run), study.join()
    trial = service.trial(participant)
    assert service.answer(participant, trial, "left", Timing()) is Recorded.TOO_SOON
    with write(database) as session:
        session.execute(update(Assignment).values(assigned_at=utc_now() - timedelta(seconds=6)))
    assert service.answer(participant, trial, "left", Timing()) is Recorded.STORED


def test_a_session_ends_at_its_cap_and_opens_again_later(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(sessions=Sessions(most=2, hours=8)))
    service, participant = StudyService(database, study.run), study.join()
    for _ in range(2):
        service.answer(participant, service.trial(participant), "left", Timing())
    turn = service.turn(participant)
    until = turn.resting_until
    assert turn.trial is None
    assert timedelta(hours=7, minutes=59) < until - utc_now() <= timedelta(hours=8)
    with write(database) as session:
        session.execute(update(Judgment).values(judged_at=utc_now() - timedelta(hours=9)))
    turn = service.turn(participant)
    assert turn.resting_until is None
    assert turn.trial is not None


def test_the_time_left_follows_the_participants_own_pace_and_passes_rests_by() -> None:
    # ten seconds each, an hour's rest, then thirty seconds each; the latest first
    moments = [utc_now()]
    for seconds in (10, 10, 3600, 30):
        moments.insert(0, moments[0] + timedelta(seconds=seconds))
        # of three gaps known at most, which is too few
        assert tasks.minutes_left(moments, 12) is None
    moments.insert(0, moments[0] + timedelta(seconds=30))
    assert tasks.minutes_left(moments, 12) == 4
    assert tasks.minutes_left(moments, 1) == 1
    assert tasks.minutes_left(moments, 0) is None
    # a clock that was set back says nothing either
    assert tasks.minutes_left([moments[-1], *moments], 12) == 4


def test_simulated_participants_answer_questions_and_checks_too(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(also_ask=("quality",), checks=ALL_CHECKS, gold=GOLD, cannot_tell=True))
    done = simulate(database, study.study_id, 5, Behaviour({"fancy": 9.0}, lapse=0.0), 1)
    assert done.judgments == 30
    with read(database) as session:
        assert len(session.scalars(select(Answer)).all()) == 30
        checks = session.scalars(select(Check)).all()
    assert all(check.choice == check.expected for check in checks if check.kind == "attention")
    assert all(check.choice is not None for check in checks)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.33])
def test_checks_come_at_their_rate_from_the_first_page_on(rate: float) -> None:
    design = Design(checks=Checks(null_pairs=rate, attention=rate))
    first = sum(len(checks_before(design, seed, 0)) > 0 for seed in range(2000))
    # a page is a check with probability 2 rate / (1 + 2 rate), the first page included; within 4 standard errors
    chance = 2 * rate / (1 + 2 * rate)
    assert abs(first - 2000 * chance) < 4 * (2000 * chance * (1 - chance)) ** 0.5
    counts = Counter(kind for seed in range(200) for kind in checks_before(design, seed, 99))
    for kind in ("null_pair", "attention"):
        # of a geometric number of checks before each of 100 comparisons
        assert abs(counts[kind] - 20_000 * rate) < 4 * (20_000 * rate * (1 + rate)) ** 0.5


def test_the_schedule_holds_whatever_is_asked_first() -> None:
    design = Design(checks=ALL_CHECKS, gold=GOLD)
    late = checks_before(design, 5, 50)
    assert checks_before(design, 5, 3) == late[: len(checks_before(design, 5, 3))]
    assert late.count("gold") == 1
    assert "repeat" not in checks_before(design, 5, 3)


def test_what_a_browser_claims_is_held_to_what_can_be() -> None:
    told = Timing.told({"reaction_ms": 812.4, "loaded_ms": -1, "hidden_ms": "x", "focus_losses": True, "more": 1})
    assert told == Timing(reaction_ms=812)
    assert Timing.told({"reaction_ms": 10**12}) == Timing()


def test_every_page_check_or_comparison_is_preloaded_on_the_page_before(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(checks=ALL_CHECKS, gold=GOLD))
    service = StudyService(database, study.run)
    token = service.join()
    participant = service.visitor(token).id
    service.finish_step(participant, "practiced_at")
    upcoming, kinds, sizes, lengths = None, set(), set(), set()
    while (trial := service.trial(participant)) is not None:
        if upcoming is not None:
            assert {*trial.images} <= upcoming, trial.kind
            assert all({*concept.references} <= upcoming for concept in trial.concepts)
        upcoming = {*trial.upcoming}
        kinds.add(trial.kind)
        sizes.add((trial.size, len(trial.concepts)))
        lengths |= {len(service.stimulus(token, url.removeprefix("/i/"))) for url in trial.images}
        service.answer(participant, trial, "left", Timing())
    assert kinds == {"comparison", "check"}
    # no page differs in image size, concepts or bytes on the wire
    assert len(sizes) == len(lengths) == 1
