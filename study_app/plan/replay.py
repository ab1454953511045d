"""Replay of an audit log: rebuilds every table of an export from the events alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from study_app.plan.export_tables import COLUMNS, ERASABLE, TIMINGS, cell, free_text, read_csv

Row = dict[str, str]
Content = Mapping[str, Any]
STARTS = ("begun", "adopted")
STEPS = ("consented", "screened", "instructed", "practiced", "finished", "questioned")


class ReplayError(Exception):
    """An event that does not fit the ones before it."""


@dataclass
class Replay:
    """State of a study after some events; tables hold rows of cells by their key."""

    participants: dict[int, Row] = field(default_factory=dict)
    assignments: dict[int, Row] = field(default_factory=dict)
    # by their assignment, of which each has one at most
    judgments: dict[int, Row] = field(default_factory=dict)
    answers: dict[int, Row] = field(default_factory=dict)
    checks: dict[int, Row] = field(default_factory=dict)
    further_pictures: dict[tuple[int, int], Row] = field(default_factory=dict)
    check_answers: dict[int, Row] = field(default_factory=dict)
    withdrawals: dict[int, Row] = field(default_factory=dict)
    # commitments to rows of erasable tables, by participant and question (empty for a screen)
    screens: dict[tuple[int, str], str] = field(default_factory=dict)
    replies: dict[tuple[int, str], str] = field(default_factory=dict)
    # of comparisons that an amendment changed: the target that the plan has, and the present one
    planned_targets: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)
    # the event that started the log: design, manifest, plan
    start: dict[str, Any] = field(default_factory=dict)
    # number of events before the log carried everything
    unproven: int = 0
    manifest: str = ""
    locked: bool = False

    def apply(self, number: int, kind: str, content: Content, happened_at: str) -> None:
        """Apply one event; raise ReplayError if it does not fit."""
        if not self.start and kind not in STARTS:
            # of a log that began before it carried everything; `adopted` holds the tables as they were then
            self.unproven += 1
            return
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise ReplayError(f"its kind {kind!r} is unknown; update evalkit to verify this export")
        try:
            handler(self, content, happened_at)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ReplayError(f"it does not fit the events before it ({type(error).__name__}: {error})") from error

    def rows(self, table: str) -> list[Row]:
        """Return the rebuilt rows of a table, in the order of an export."""
        stored: dict[Any, Row] = getattr(self, table)
        if table == "judgments":
            return sorted(stored.values(), key=lambda row: int(row["id"]))
        return [stored[key] for key in sorted(stored)]

    def filled(self) -> dict[str, int]:
        """Return how many places of each comparison are taken, by its id."""
        counts: dict[str, int] = {}
        for row in self.assignments.values():
            if row["state"] in ("open", "done"):
                counts[row["comparison_id"]] = counts.get(row["comparison_id"], 0) + 1
        return counts

    # --- events ---

    def begin(self, content: Content, happened_at: str) -> None:
        if self.start:
            raise ValueError("the log starts twice")
        self.start = {"created_at": happened_at, **content}
        self.manifest = str(content["manifest"])
        for name, data in content.get("tables", {}).items():
            self._adopt(name, read_csv(data.encode()))
        for table in ERASABLE:
            commitments: dict[tuple[int, str], str] = getattr(self, table)
            commitments.update({(int(who), str(name)): str(sha) for who, name, sha in content.get(table, ())})

    def _adopt(self, name: str, rows: list[Row]) -> None:
        stored: dict[Any, Row] = getattr(self, name)
        for row in rows:
            key: Any = int(row["assignment_id" if name == "judgments" else "id"]) if "id" in row else None
            if name == "further_pictures":
                key = int(row["check_id"]), int(row["place"])
            stored[key] = {column: row[column] for column in COLUMNS[name]}

    def arrive(self, content: Content, happened_at: str) -> None:
        given = {"id": content["participant"], "arrived_at": happened_at}
        given |= {name: content[name] for name in ("simulated", "seed", "language")}
        _insert(self.participants, int(content["participant"]), _row("participants", given))

    def step(self, content: Content, happened_at: str) -> None:
        if content["step"] not in STEPS:
            raise ValueError(f"unknown step {content['step']!r}")
        self.participants[content["participant"]][f"{content['step']}_at"] = happened_at

    def screen(self, content: Content, happened_at: str) -> None:
        self.screens[content["participant"], ""] = content["commitment"]
        if content["done"]:
            self.participants[content["participant"]]["screened_at"] = happened_at

    def reply(self, content: Content, happened_at: str) -> None:
        for question, sha in content["commitments"].items():
            self.replies[content["participant"], question] = sha
        self.participants[content["participant"]]["questioned_at"] = happened_at

    def comment(self, content: Content, happened_at: str) -> None:
        self.participants[content["participant"]]  # a comment of a stranger does not fit
        for question, sha in content["commitments"].items():
            self.replies[content["participant"], question] = sha

    def assign(self, content: Content, happened_at: str) -> None:
        given = {"id": content["assignment"], "comparison_id": content["comparison"], "participant_id": content["participant"],
                 "position": content["position"], "left": content["left"], "arrangement": content.get("arrangement"),
                 "state": "open", "assigned_at": happened_at}  # fmt: skip
        _insert(self.assignments, int(content["assignment"]), _row("assignments", given))

    def reopen(self, content: Content, happened_at: str) -> None:
        self.assignments[content["assignment"]]["state"] = "open"

    def lapse(self, content: Content, happened_at: str) -> None:
        for assignment in content["assignments"]:
            self.assignments[assignment]["state"] = "expired"

    def judge(self, content: Content, happened_at: str) -> None:
        assignment = self.assignments[content["assignment"]]
        shown = (assignment["comparison_id"], assignment["participant_id"], assignment["left"], assignment["arrangement"])
        named = (content["comparison"], content["participant"], content["left"], content.get("arrangement"))
        if shown != tuple(cell(value) for value in named):
            raise ValueError(f"assignment {content['assignment']} was another one")
        given = {"id": content["judgment"], "assignment_id": content["assignment"], "choice": content["choice"],
                 "surplus": content["surplus"], "judged_at": happened_at, **_timings(content)}  # fmt: skip
        _insert(self.judgments, int(content["assignment"]), _row("judgments", given))
        if not content["surplus"]:
            assignment["state"] = "done"

    def answer(self, content: Content, happened_at: str) -> None:
        given = {"id": content["answer"], "assignment_id": content["assignment"], "question": content["question"],
                 "choice": content["choice"], "answered_at": happened_at, **_timings(content)}  # fmt: skip
        _insert(self.answers, int(content["answer"]), _row("answers", given))

    def withdraw(self, content: Content, happened_at: str) -> None:
        assignment = content["assignment"]
        taken = {"overall": self.judgments.pop(assignment)}
        for key in [key for key, row in self.answers.items() if row["assignment_id"] == cell(assignment)]:
            answer = self.answers.pop(key)
            taken[answer["question"]] = answer
        for identifier, question in content["withdrawals"]:
            row = taken.pop(question)
            given = {"id": identifier, "assignment_id": assignment, "question": question, "choice": row["choice"],
                     "judged_at": row.get("judged_at") or row["answered_at"], "withdrawn_at": happened_at,
                     **{name: row[name] for name in TIMINGS}}  # fmt: skip
            _insert(self.withdrawals, int(identifier), _row("withdrawals", given))
        if taken:
            raise ValueError(f"{', '.join(taken)}: withdrawn without a trace")
        self.assignments[assignment]["state"] = "open"
        if content["freed"] is not None:
            self.assignments[content["freed"]]["state"] = "expired"

    def check(self, content: Content, happened_at: str) -> None:
        shown = content["shown"]
        given = {"id": content["check"], "participant_id": content["participant"], "kind": content["kind"],
                 "after": content["after"], "assignment_id": content["assignment"], "concept": content["concept"],
                 "case": content["case"],
                 "left_sha256": shown[0], "right_sha256": shown[1], "expected": content["expected"],
                 "given_at": happened_at}  # fmt: skip
        _insert(self.checks, int(content["check"]), _row("checks", given))
        for position, sha256 in enumerate(shown[2:], 2):
            row = _row("further_pictures", {"check_id": content["check"], "place": position, "sha256": sha256})
            self.further_pictures[int(content["check"]), position] = row

    def checked(self, content: Content, happened_at: str) -> None:
        row = self.checks[content["check"]]
        if row["choice"] or row["kind"] != content["kind"]:
            raise ValueError(f"check {content['check']} was answered before, or is of another kind")
        given = {"choice": content["choice"], "answered_at": happened_at, **_timings(content)}
        row.update({name: cell(value) for name, value in given.items()})

    def answer_check(self, content: Content, happened_at: str) -> None:
        if not self.checks[content["check"]]["choice"]:
            raise ValueError(f"check {content['check']} was not answered before")
        given = {"id": content["answer"], "check_id": content["check"], "question": content["question"],
                 "choice": content["choice"], "answered_at": happened_at, **_timings(content)}  # fmt: skip
        _insert(self.check_answers, int(content["answer"]), _row("check_answers", given))

    def exclude(self, content: Content, happened_at: str) -> None:
        self.participants[content["participant"]] |= {
            "excluded_at": happened_at,
            "excluded_because": free_text(cell(content["because"])),
        }
        self.lapse({"assignments": content["freed"]}, happened_at)

    def include(self, content: Content, happened_at: str) -> None:
        self.participants[content["participant"]] |= {"excluded_at": "", "excluded_because": ""}
        for assignment in content["restored"]:
            self.assignments[assignment]["state"] = "done"
        for assignment in content["surplus"]:
            self.judgments[assignment]["surplus"] = "1"

    def void(self, content: Content, happened_at: str) -> None:
        self.lapse({"assignments": content["freed"]}, happened_at)

    def bind_manifest(self, content: Content, happened_at: str) -> None:
        self.manifest = str(content["sha256"])

    def amend(self, content: Content, happened_at: str) -> None:
        for comparison, before, after in content["targets"]:
            key = cell(comparison)
            if self.targets.get(key, cell(before)) != cell(before):
                raise ValueError(f"comparison {key} had another target")
            self.planned_targets.setdefault(key, cell(before))
            self.targets[key] = cell(after)

    def lock(self, content: Content, happened_at: str) -> None:
        self.locked = True

    def erase(self, content: Content, happened_at: str) -> None:
        who = content["participant"]
        self.participants[who]  # an erasure of a stranger does not fit
        self.erased.add(int(who))
        for commitments in (self.screens, self.replies):
            for key in [key for key in commitments if key[0] == who]:
                del commitments[key]

    def note(self, content: Content, happened_at: str) -> None:
        """Apply an event that changes no table."""


def _row(table: str, given: Mapping[str, object]) -> Row:
    return {column: cell(given.get(column)) for column in COLUMNS[table]}


def _timings(content: Content) -> dict[str, object]:
    return {name: content[name] for name in TIMINGS}


def _insert(rows: dict[int, Row], key: int, row: Row) -> None:
    if key in rows:
        raise ValueError(f"{key} is there already")
    rows[key] = row


_HANDLERS: dict[str, Callable[[Replay, Content, str], None]] = {
    "begun": Replay.begin,
    "adopted": Replay.begin,
    "manifest": Replay.bind_manifest,
    "arrived": Replay.arrive,
    "step": Replay.step,
    "screened": Replay.screen,
    "replied": Replay.reply,
    "commented": Replay.comment,
    "assigned": Replay.assign,
    "reopened": Replay.reopen,
    "lapsed": Replay.lapse,
    "judged": Replay.judge,
    "answered": Replay.answer,
    "withdrawn": Replay.withdraw,
    "check": Replay.check,
    "checked": Replay.checked,
    "check_answered": Replay.answer_check,
    "excluded": Replay.exclude,
    "included": Replay.include,
    "voided": Replay.void,
    "paused": Replay.note,
    "resumed": Replay.note,
    "look": Replay.note,
    "amended": Replay.amend,
    "locked": Replay.lock,
    "erased": Replay.erase,
}
