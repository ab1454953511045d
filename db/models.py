"""All database models: runs, scores, studies, participants, judgments, machine judges."""

from db.declarative import DatabaseTable, Id
from db.judge_tables import JudgeCall, MachineJudge
from db.people_tables import ErasedPerson, Identity, Participant, Reply, Screen
from db.run_tables import CaseConcept, Metric, Reference, Run, StoredArm, StoredCase, StoredConcept, StoredImage, StoredScore
from db.study_tables import (
    Answer,
    Assignment,
    Check,
    CheckAnswer,
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
    "Assignment",
    "CaseConcept",
    "Check",
    "CheckAnswer",
    "Comparison",
    "DatabaseTable",
    "ErasedPerson",
    "Event",
    "FurtherImage",
    "FurtherPicture",
    "Id",
    "Identity",
    "JudgeCall",
    "Judgment",
    "MachineJudge",
    "Metric",
    "Participant",
    "Reference",
    "Reply",
    "Run",
    "Screen",
    "StoredArm",
    "StoredCase",
    "StoredConcept",
    "StoredImage",
    "StoredScore",
    "Study",
    "Withdrawal",
)
