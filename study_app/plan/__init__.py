"""Study design: comparisons, image blinding, page texts, questionnaire and audit log."""
