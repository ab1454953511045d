"""Drafts of questionnaires: what a participant has filled in but not sent, so that a reload loses nothing."""

from collections import OrderedDict
from collections.abc import Mapping

# participants remembered by a process; whoever has not typed for longest is forgotten first
MOST_DRAFTS = 1000


class Drafts:
    """Unsent replies by participant, in memory alone: they are theirs until they send them."""

    def __init__(self) -> None:
        self._drafts: OrderedDict[int, dict[str, object]] = OrderedDict()

    def keep(self, participant_id: int, fields: Mapping[str, object]) -> None:
        """Remember the fields that hold something; those of other pages stay."""
        draft = self._drafts.pop(participant_id, {})
        draft.update(fields)
        self._drafts[participant_id] = draft
        while len(self._drafts) > MOST_DRAFTS:
            self._drafts.popitem(last=False)

    def of(self, participant_id: int) -> Mapping[str, object]:
        """Return what a participant has filled in, by field."""
        return self._drafts.get(participant_id, {})
