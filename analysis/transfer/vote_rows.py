"""Votes from rows with canonical columns: pairs, rankings, best of N or ratings; all mistakes at once."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.transfer.ratings import RatingRule, Scale, pairs_of_ratings, scale_note, scales_of
from analysis.transfer.source_rows import Mistakes, SourceRow
from analysis.transfer.tidy_vote import FLAGS, OVERALL, TIES, TidyVote
from evalkit.errors import UserError

CANONICAL = (
    "participant", "case", "seed", "concepts", "question", "arm_left", "arm_right", "arm_a", "arm_b", "chosen_arm", "arm",
    "place", "rank", "rating", "order", "response_ms", "flags",
)  # fmt: skip
KINDS = {"pairs": "chosen_arm", "ranks": "rank", "ratings": "rating"}
Key = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class ReadVotes:
    """Votes of a file. `votes` answer the analyzed question, whose name is then `overall`; `further` the other questions."""

    votes: tuple[TidyVote, ...]
    further: tuple[TidyVote, ...]
    concepts: Mapping[str, tuple[str, ...]]
    """Concepts of each case as the file states them; a case is absent if it states none."""
    rule: str
    """How ratings became votes; empty if there were none."""
    notes: tuple[str, ...]


def votes_of_rows(
    where: str,
    rows: Sequence[SourceRow],
    problem: Callable[[str, str, int], str] | None = None,
    question: str | None = None,
    rule: RatingRule | None = None,
    concepts: Mapping[str, tuple[str, ...]] | None = None,
) -> ReadVotes:
    """Return the votes of rows with canonical columns.

    Parameters
    ----------
    where : name of the file, for errors.
    rows : rows in the order of the file.
    problem : returns what is wrong with an image's case, arm and seed, such as being unknown; empty if nothing is.
    question : the question to analyze; default: the only one, or `overall`.
    rule : how ratings become votes.
    concepts : concepts of each case that are known already; the rows must have the same ones or none.

    Raises:
        UserError: lists the first 20 mistakes by row and column.
    """
    if not rows:
        raise UserError(f"{where}: has no votes; give a file with one row per vote")
    kind = _kind(where, rows)
    mistakes = Mistakes(where, "rows do not fit the run" if problem else "rows are not votes")
    chosen = _question(where, rows, question)
    cells = _Reader(mistakes, problem, concepts or {})
    if kind == "pairs":
        votes = list(cells.pairs(rows))
    elif kind == "ranks":
        votes = list(cells.rankings(rows))
    else:
        votes = cells.rated(rows, rule or RatingRule())
    mistakes.raise_any()
    main = [replace(vote, question=OVERALL) for vote in votes if vote.question == chosen]
    asked = {(vote.participant, vote.case, vote.seed, frozenset(vote.shown)) for vote in main}
    others = [vote for vote in votes if vote.question != chosen]
    further = [vote for vote in others if (vote.participant, vote.case, vote.seed, frozenset(vote.shown)) in asked]
    notes = list(cells.notes)
    if chosen != OVERALL:
        notes.append(f"question {chosen!r} is analyzed")
    if len(further) < len(others):
        notes.append(f"{len(others) - len(further)} answers to other questions left out: without an answer to {chosen!r}")
    return ReadVotes(tuple(main), tuple(further), dict(cells.concepts), str(rule or RatingRule()) if kind == "ratings" else "",
                     tuple(notes))  # fmt: skip


def _kind(where: str, rows: Sequence[SourceRow]) -> str:
    kinds = [kind for kind, column in KINDS.items() if any(row.text(column) for row in rows)]
    if len(kinds) != 1:
        what = f"mixes {' and '.join(kinds)}" if kinds else f"has no column {', '.join(KINDS.values())}"
        raise UserError(f"{where}: {what}; give one kind of votes, and map other names by --columns NAME=COLUMN")
    return kinds[0]


def _question(where: str, rows: Sequence[SourceRow], question: str | None) -> str:
    names = list(dict.fromkeys(row.text("question") or OVERALL for row in rows))
    if question is not None and question not in names:
        raise UserError(f"{where}: has no question {question!r}, only {', '.join(names)}; give one of them by --question")
    if question is None and len(names) > 1 and OVERALL not in names:
        raise UserError(f"{where}: has the questions {', '.join(names)}; choose the one to analyze by --question NAME")
    return question or (names[0] if len(names) == 1 else OVERALL)


class _Reader:
    """Checks of cells that all kinds of votes share."""

    def __init__(
        self,
        mistakes: Mistakes,
        problem: Callable[[str, str, int], str] | None,
        known: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.mistakes, self.problem, self.known = mistakes, problem, known
        self.concepts: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []

    def pairs(self, rows: Sequence[SourceRow]) -> Iterator[TidyVote]:
        first_rows: dict[object, str] = {}
        for row in rows:
            sided = bool(row.text("arm_left") or row.text("arm_right"))
            names = ("arm_left", "arm_right") if sided else ("arm_a", "arm_b")
            key = self._key(row)
            shown = (row.text(names[0]), row.text(names[1]))
            if key is None or not all([self._filled(row, name) for name in (*names, "chosen_arm")]):
                continue
            if shown[0] == shown[1]:
                self.mistakes.add(row, names[1], f"is {shown[0]!r}, as {names[0]} is")
                continue
            if not all([self._has_image(row, name, key, arm) for name, arm in zip(names, shown, strict=True)]):
                continue
            chosen = row.text("chosen_arm")
            if chosen not in (*shown, *TIES):
                self.mistakes.add(row, "chosen_arm", f"{chosen!r} is neither {shown[0]!r}, {shown[1]!r}, 'tie' nor 'both_bad'")
                continue
            same = (key, frozenset(shown))
            if same in first_rows:
                self.mistakes.add(row, "", f"the participant's second vote on this comparison, first in {first_rows[same]}")
                continue
            first_rows[same] = row.place
            yield self._vote(row, key, shown, (chosen,) if chosen in shown else (), sided)

    def rankings(self, rows: Sequence[SourceRow]) -> Iterator[TidyVote]:
        """Yield one vote per participant, case, seed and question; a row is one arm."""
        groups: dict[Key, list[tuple[SourceRow, str, int, int | None]]] = defaultdict(list)
        for row in rows:
            key = self._key(row)
            if key is None or not all([self._filled(row, name) for name in ("arm", "rank")]):
                continue
            rank, position = self._whole(row, "rank"), self._whole(row, "place") if row.text("place") else None
            arm = row.text("arm")
            if rank is None or not self._has_image(row, "arm", key, arm):
                continue
            if arm in [other for _, other, _, _ in groups[key]]:
                self.mistakes.add(row, "arm", f"{arm!r} was ranked before in this vote")
                continue
            groups[key].append((row, arm, rank, position))
        for key, ranked in groups.items():
            row = ranked[0][0]
            if len(ranked) < 2:
                self.mistakes.add(row, "arm", f"is the only arm of its vote; {key[0]!r} ranked no other for this case and seed")
                continue
            by_rank = sorted(ranked, key=lambda one: one[2])
            lowest = by_rank[-1][2]
            best = tuple(arm for _, arm, rank, _ in by_rank if rank < lowest)
            # of a full ranking the last arm is known too
            full = len(best) == len(ranked) - 1 and len(ranked) > 2
            ranks = [rank for _, _, rank, _ in by_rank if rank < lowest]
            if len(set(ranks)) < len(ranks):
                self.mistakes.add(
                    row, "rank", "two arms share a rank above the last; give them different ranks, or all the same"
                )
                continue
            places = {position for _, _, _, position in ranked}
            sided = None not in places and len(places) == len(ranked)
            order = sorted(ranked, key=lambda one: one[3] or 0) if sided else ranked
            best = (*best, by_rank[-1][1]) if full and len(best) > 1 else best
            yield self._vote(row, key, tuple(arm for _, arm, _, _ in order), best, sided)

    def rated(self, rows: Sequence[SourceRow], rule: RatingRule) -> list[TidyVote]:
        """Return the votes that ratings of single images imply."""
        ratings: dict[Key, dict[str, tuple[float, SourceRow]]] = defaultdict(dict)
        scales: list[Scale] = []
        for row in rows:
            key = self._key(row)
            if key is None or not all([self._filled(row, name) for name in ("arm", "rating")]):
                continue
            arm = row.text("arm")
            try:
                value = float(row.text("rating"))
            except ValueError:
                self.mistakes.add(row, "rating", f"{row.text('rating')!r} is not a number")
                continue
            if not self._has_image(row, "arm", key, arm):
                continue
            if arm in ratings[key]:
                self.mistakes.add(
                    row, "rating", f"the participant's second rating of this image, first in {ratings[key][arm][1].place}"
                )
                continue
            ratings[key][arm] = (value, row)
            scales.append(Scale(key[3], key[0], value))
        self.notes += scale_note(scales_of(scales))
        votes = []
        for key, by_arm in ratings.items():
            for first, second, winner in pairs_of_ratings({arm: value for arm, (value, _) in by_arm.items()}, rule):
                votes.append(self._vote(by_arm[first][1], key, (first, second), (winner,) if winner else (), False))
        return votes

    def _vote(self, row: SourceRow, key: Key, shown: tuple[str, ...], best: tuple[str, ...], sided: bool) -> TidyVote:
        flags = frozenset(filter(None, row.text("flags").split("+")))
        for flag in sorted(flags - set(FLAGS)):
            self.mistakes.add(row, "flags", f"{flag!r} is not a flag; there are {', '.join(FLAGS)}")
        response = self._whole(row, "response_ms") if row.text("response_ms") else None
        return TidyVote(key[0], key[1], key[2], shown, best, key[3], sided, None, response, flags & set(FLAGS))

    def _key(self, row: SourceRow) -> Key | None:
        if "error" in row.cells:
            self.mistakes.add(row, "", str(row.cells["error"]))
            return None
        if not all([self._filled(row, name) for name in ("participant", "case", "seed")]):
            return None
        seed = self._whole(row, "seed")
        if seed is None:
            return None
        case, named = row.text("case"), tuple(filter(None, row.text("concepts").split("+")))
        earlier = self.known.get(case) or (self.concepts.setdefault(case, named) if named else ())
        if named and set(named) != set(earlier):
            where = "in the run" if case in self.known else "in an earlier row"
            self.mistakes.add(row, "concepts", f"{'+'.join(named)!r}, but {'+'.join(earlier)!r} {where}")
        return row.text("participant"), case, seed, row.text("question") or OVERALL

    def _filled(self, row: SourceRow, name: str) -> bool:
        if row.text(name):
            return True
        self.mistakes.add(row, name, "is empty" if name in row.cells else "is missing")
        return False

    def _whole(self, row: SourceRow, name: str) -> int | None:
        try:
            value = float(row.text(name))
            if value.is_integer() or name == "response_ms":
                # a seed of 2**53 or more has no exact float
                return int(row.text(name)) if row.text(name).lstrip("+").isdigit() else int(value)
        except (ValueError, OverflowError):
            pass
        self.mistakes.add(row, name, f"{row.text(name)!r} is not a {'number' if name == 'response_ms' else 'whole number'}")
        return None

    def _has_image(self, row: SourceRow, name: str, key: Key, arm: str) -> bool:
        wrong = self.problem(key[1], arm, key[2]) if self.problem is not None else ""
        if wrong:
            self.mistakes.add(row, name, wrong)
        return not wrong
