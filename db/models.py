"""The tables: a run, its study and its judgments."""

from db.declarative import Id, Table
from db.people_tables import Identity, Participant, Reply, Screen
from db.run_tables import Arm, Case, CaseConcept, Concept, Image, Metric, Reference, Run, Score
from db.study_tables import (
    Answer,
    Assignment,
    Check,
    Comparison,
    Event,
    FurtherImage,
    FurtherPicture,
    Judgment,
    Study,
    Withdrawal,
)

__all__ = (
    "Answer",
    "Arm",
    "Assignment",
    "Case",
    "CaseConcept",
    "Check",
    "Comparison",
    "Concept",
    "Event",
    "FurtherImage",
    "FurtherPicture",
    "Id",
    "Identity",
    "Image",
    "Judgment",
    "Metric",
    "Participant",
    "Reference",
    "Reply",
    "Run",
    "Score",
    "Screen",
    "Study",
    "Table",
    "Withdrawal",
)
