"""More than two images at once: the best is picked or all are ranked, through plan, quotas, pages, undo, log and export."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from db.models import Assignment, Check, Comparison, FurtherImage, Judgment, Withdrawal
from db.session import read, write
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.conduct.careless_rules import conduct_of_all
from study_app.conduct.export import export_study
from study_app.conduct.progress import study_status
from study_app.conduct.verify import verify_export
from study_app.plan.check_schedule import checks_before
from study_app.plan.comparisons import plan_comparisons
from study_app.plan.design import Checks, Design, Gold
from study_app.plan.page_layout import arrange, best_first, is_answer, places, press, standing
from study_app.service.participants import add_participant
from study_app.service.record_judgment import Recorded, Timing
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.test_pages import Walk, ready
from tests.study_app.test_verify import repacked

KINDS = {"null_pair", "repeat", "attention", "gold"}
FOUR = ("direct", "mc_dropout", "orthogonal_mc_dropout", "ties")


@given(st.integers(3, 8), st.integers(0, 40))
def test_each_image_stands_at_each_place_equally_often(count: int, people: int) -> None:
    handed: list[str] = []
    for person in range(people):
        handed.append(arrange(count, "7 3", str(person), handed))
    for place in range(count):
        seen = Counter(standing(0, arrangement)[place] for arrangement in handed)
        assert max(seen.values(), default=0) - min((seen[image] for image in range(count)), default=0) <= 1


def test_an_answer_names_images_by_where_they_stood() -> None:
    assert best_first("left", standing(1, None)) == (1,)
    assert best_first("3", (2, 0, 1)) == (1,)
    assert best_first("3 1 2", (2, 0, 1)) == (1, 2, 0)
    assert best_first("cannot_tell", (2, 0, 1)) == ()


@pytest.mark.parametrize("choice", ["left", "4", "", "1 2", "0", "1 2 3", "one", "1 1 2"])
def test_what_is_no_place_is_no_answer(choice: str) -> None:
    assert is_answer(choice, 3, "ranking") is (choice == "1 2 3")
    assert not is_answer(choice, 3, "best")


def test_a_ranking_grows_press_by_press_and_takes_back_what_is_pressed_again() -> None:
    assert press("", "3", 4) == "3"
    assert press("3", "1", 4) == "3 1"
    assert press("3 1", "2", 4) == "3 1 2 4"
    assert press("3 1 2 4", "1", 4) == "3"
    assert places(4) == ("1", "2", "3", "4")


def test_all_sets_of_so_many_arms_are_planned(tmp_path: Path) -> None:
    manifest = make_run(tmp_path / "run", arms=FOUR, scores=False)
    plan = plan_comparisons(manifest, 0, at_once=3)
    assert len({planned.arms for planned in plan}) == 4
    assert sorted(planned.priority for planned in plan) == list(range(4 * 6))
    with pytest.raises(UserError, match=r"a comparison needs 5 arms \(at_once\); there are 4"):
        plan_comparisons(manifest, 0, at_once=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"answer": "ranking"}, "a ranking needs at_once of 3"),
        ({"at_once": 9}, "less than or equal to 8"),
        ({"at_once": 3, "comparisons": {"pairs": [["a", "b"]]}}, "are for two images at a time"),
    ],
)
def test_a_design_that_cannot_be_is_refused(wrong, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Design.model_validate(wrong)


@pytest.fixture(params=["best", "ranking"])
def several(request, database, tmp_path: Path):
    """Return a study of three comparisons of four images, three people each."""
    design = Design(per_comparison=3, at_once=4, answer=request.param, cannot_tell=True)
    study = begin(database, tmp_path / "run", design, arms=FOUR, concepts=3)
    return study, StudyService(database, study.run)


def test_a_page_shows_four_blinded_images_and_takes_nothing_but_its_answers(several) -> None:
    study, service = several
    token = service.join()
    who = service.visitor(token).id
    trial = service.trial(who)
    assert trial.places == ("1", "2", "3", "4")
    assert len(set(trial.images)) == 4
    shown = {service.stimulus(token, url.removeprefix("/i/")) for url in trial.images}
    assert len(shown) == 4
    assert len({len(data) for data in shown}) == 1
    # another participant's cookie opens none of them
    assert service.stimulus(service.join(), trial.images[0].removeprefix("/i/")) is None
    for wrong in ("left", "5", "1 2 3", "2 1" if not trial.ranking else "2"):
        with pytest.raises(UserError, match="this study offers 1, 2, 3, 4, cannot_tell"):
            service.answer(who, trial, wrong, Timing())
    right = "2 1 4 3" if trial.ranking else "3"
    assert service.answer(who, trial, right, Timing(reaction_ms=700)) is Recorded.STORED
    assert service.answer(who, trial, right, Timing()) is Recorded.ALREADY
    # taken back, it comes again as it stood, and the old answer is kept
    assert service.undo(who, trial.owner)
    again = service.trial(who)
    assert (again.owner, again.images) == (trial.owner, trial.images)
    assert service.answer(who, again, "cannot_tell", Timing()) is Recorded.STORED
    with read(study.database) as session:
        assert session.scalars(select(Judgment.choice)).all() == ["cannot_tell"]
        assert session.scalars(select(Withdrawal.choice)).all() == [right]


def test_simulated_people_fill_every_place_and_choose_what_they_like(several) -> None:
    study, service = several
    behaviour = Behaviour({"ties": 50.0, "direct": 25.0}, lapse=0.0, cannot_tell=0.0)
    assert simulate(study.database, study.study_id, 4, behaviour, 1).judgments == 3 * study.comparisons
    status = study_status(study.database, study.study_id)
    assert [(group.arms, group.comparisons, group.judged) for group in status.groups] == [(FOUR, 6, 18)]
    with read(study.database) as session:
        rows = session.execute(
            select(Comparison, Assignment.left, Assignment.arrangement, Judgment.choice)
            .join(Assignment, Assignment.comparison_id == Comparison.id)
            .join(Judgment, Judgment.assignment_id == Assignment.id)
        ).all()
        chosen = [
            [comparison.images[image].arm.label for image in best_first(choice, standing(left, arrangement))]
            for comparison, left, arrangement, choice in rows
        ]
        stood = [standing(left, arrangement) for _, left, arrangement, _ in rows]
        assert all((left == 0) == (stand.index(0) < stand.index(1)) for (_, left, _, _), stand in zip(rows, stood, strict=True))
        assert all(comparison.filled == comparison.target == 3 for comparison, *_ in rows)
    assert all(order[0] == "ties" for order in chosen)
    if service.design.answer == "ranking":
        assert all(order[1] == "direct" and sorted(order) == sorted(FOUR) for order in chosen)


def test_an_export_tells_the_further_images_and_how_all_stood(several, tmp_path: Path) -> None:
    study, _ = several
    simulate(study.database, study.study_id, 3, Behaviour(), 1)
    export_study(study.database, study.run, tmp_path / "export.zip")
    assert verify_export(tmp_path / "export.zip").judgments == 18

    def arranged_otherwise(files: dict[str, bytes]) -> None:
        lines = files["assignments.csv"].decode().splitlines()
        place = lines[0].split(",").index("arrangement")
        cells = lines[1].split(",")
        cells[place] = " ".join(reversed(cells[place].split()))
        files["assignments.csv"] = "\n".join([lines[0], ",".join(cells), *lines[2:], ""]).encode()

    def another_image(files: dict[str, bytes]) -> None:
        shown = files["further_images.csv"].splitlines()[1].split(b",")[-1]
        files["further_images.csv"] = files["further_images.csv"].replace(shown, b"0" * 64)

    for change, message in ((arranged_otherwise, "but the log states"), (another_image, "is not the plan in the log")):
        with pytest.raises(UserError, match=message):
            verify_export(repacked(tmp_path / "export.zip", tmp_path / "changed.zip", change))
    with zipfile.ZipFile(tmp_path / "export.zip") as bundle:
        design = json.loads(bundle.read("design.json"))["design"]
    assert (design["at_once"], design.keys()) == (4, {*Design.model_fields, "wording"})


def test_the_database_holds_further_images_to_the_comparisons_case_and_seed(several) -> None:
    study, _ = several
    with read(study.database) as session:
        one, other = session.scalars(select(FurtherImage).order_by(FurtherImage.comparison_id, FurtherImage.place)).all()[1:3]
    stranger = FurtherImage(
        comparison_id=one.comparison_id, place=4, image_id=other.image_id, case_id=other.case_id, seed=other.seed
    )
    with pytest.raises(IntegrityError), write(study.database) as session:
        session.add(stranger)


def test_on_the_page_the_best_is_one_button_and_a_ranking_is_confirmed(several, monkeypatch: pytest.MonkeyPatch) -> None:
    _, service = several
    walk = Walk(service, monkeypatch)
    walk.token = service.join()
    ready(walk)
    words = service.sentences
    labels = [button.label for button in walk.page.button]
    assert labels[:5] == ["Image 1", "Image 2", "Image 3", "Image 4", words.trial.cannot_tell]
    if service.design.answer == "best":
        assert words.questions.best.two in walk.text
        walk.press("Image 3")
    else:
        assert words.questions.ranking.two in walk.text
        assert next(button for button in walk.page.button if button.label == words.trial.confirm).disabled
        for label in ("Image 2", "Image 4", "Image 4", "Image 1", "Image 3"):
            walk.press(label)
        assert "Image 2: best · Image 1: 2nd · Image 3: 3rd · Image 4: 4th" in walk.text
        walk.press(words.trial.confirm)
    assert "1 of 6 done" in walk.text
    with read(service.database) as session:
        assert session.scalars(select(Judgment.choice)).all() == ["3" if service.design.answer == "best" else "2 1 3 4"]


def test_practice_shows_as_many_pictures_and_tells_whether_the_best_one_fitted(several) -> None:
    _, service = several
    who = service.visitor(service.join()).id
    trials = service.practice(who)
    assert [len(trial.images) for trial in trials] == [4, 4]
    assert all(trial.right_answer in trial.places for trial in trials)


@pytest.mark.parametrize("answer", ["best", "ranking"])
def test_checks_of_several_look_like_any_other_page_and_know_what_is_right(database, tmp_path: Path, answer: str) -> None:
    gold = (Gold(case="star-ring", seed=0, better="ties", worse="direct"),)
    checks = Checks(null_pairs=0.5, repeats=0.3, attention=0.4, gold=0.3)
    design = Design(per_comparison=1, at_once=4, answer=answer, checks=checks, gold=gold)
    study = begin(database, tmp_path / "run", design, arms=FOUR, concepts=3)
    service = StudyService(database, study.run)
    # a seed whose schedule has every kind among so few pages
    seed = next(seed for seed in range(1000) if set(checks_before(design, seed, study.comparisons - 1)) == KINDS)
    with write(database) as session:
        person, token = add_participant(session, study.study_id, utc_now(), seed=seed)
    who, pages = person.id, []
    while (trial := service.trial(who)) is not None:
        pages.append((trial.kind, trial.places, trial.ranking))
        data = [service.stimulus(token, url.removeprefix("/i/")) for url in trial.images]
        assert len(set(trial.images)) == 4
        assert len({len(each) for each in data}) == 1
        assert service.answer(who, trial, "2 1 4 3" if trial.ranking else "2", Timing()) is Recorded.STORED
    assert len({page[1:] for page in pages}) == 1
    with read(database) as session:
        found = session.scalars(select(Check).order_by(Check.id)).all()
        assert {check.kind for check in found} == KINDS
        for check in found:
            images = [check.left_image, check.right_image, *(picture.image for picture in check.further)]
            if check.kind == "null_pair":
                assert len({image.id for image in images}) == 1
            if check.kind == "gold":
                assert sorted(image.arm.label for image in images) == sorted(FOUR)
                assert images[int(check.expected) - 1].arm.label == "ties"
            if check.kind == "repeat":
                assignment = session.get_one(Assignment, check.assignment_id)
                stood = standing(assignment.left, assignment.arrangement)
                assert images[int(check.expected) - 1] is assignment.comparison.images[stood[1]]
                assert [image.id for image in images] != [assignment.comparison.images[n].id for n in stood]
            if check.kind == "attention":
                shown = [check.left_reference, check.right_reference, *(picture.reference for picture in check.further)]
                own = [reference.concept_id == check.concept_id for reference in shown]
                assert own.index(True) == int(check.expected) - 1
                assert own.count(True) == 1
        conduct = conduct_of_all(session, study.study_id)[0]
    right = sum(check.expected == "2" for check in found if check.expected is not None)
    assert sum(conduct.passed.values()) == right
    assert sum(conduct.checked.values()) == sum(check.expected is not None for check in found)
    export_study(database, study.run, tmp_path / "export.zip")
    verify_export(tmp_path / "export.zip")


def test_simulated_people_pass_the_checks_of_several(database, tmp_path: Path) -> None:
    checks = Checks(attention=0.5, repeats=0.5)
    design = Design(per_comparison=2, at_once=3, answer="ranking", checks=checks)
    study = begin(database, tmp_path / "run", design, arms=FOUR, concepts=3)
    simulate(database, study.study_id, 2, Behaviour({"ties": 60.0, "direct": 40.0, "mc_dropout": 20.0}, lapse=0.0), 1)
    with read(database) as session:
        people = conduct_of_all(session, study.study_id)
    assert all(person.passed == person.checked and person.checked["attention"] >= 11 for person in people)
