"""The tables: a run, its study and its judgments."""

from db.run_tables import Arm, Case, CaseConcept, Concept, Image, Metric, Reference, Run, Score
from db.study_tables import Answer, Assignment, Check, Comparison, Event, Identity, Judgment, Participant, Study, Withdrawal
from db.table import Id, Table

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
    "Id",
    "Identity",
    "Image",
    "Judgment",
    "Metric",
    "Participant",
    "Reference",
    "Run",
    "Score",
    "Study",
    "Table",
    "Withdrawal",
)
