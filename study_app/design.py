"""The design of a study: what is fixed before the first judgment, and the hash that proves it."""

import hashlib
import json

from pydantic import Field

from db.models import Study
from evalkit.manifest import Record


class Design(Record):
    """How a run is judged: people per comparison, whether they may say that they cannot tell, and the seed of all order."""

    per_comparison: int = Field(default=5, ge=1, le=1000)
    cannot_tell: bool = False
    seed: int = Field(default=0, ge=0, lt=2**63)
    language: str = "en"

    def sha256(self) -> str:
        """Return the sha256 of the design's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, study: Study) -> "Design":
        """Return the design a study was begun with."""
        return cls.model_validate(study.design)
