"""Codebook of the tidy files: every column and every code."""

VOTE_COLUMNS = {
    "participant": "pseudonym of the participant; equal within this file only",
    "case": "the case: concepts and prompt",
    "seed": "seed of the initial noise, equal for both images",
    "concepts": "concepts of the case in the order of the prompt, joined by +",
    "arm_left": "arm whose image was shown on the left",
    "arm_right": "arm whose image was shown on the right",
    "chosen_arm": "the preferred arm, or `tie` for `cannot tell`",
    "order": "position of the vote among the votes of its participant, from 1",
    "response_ms": "milliseconds from both images being shown to the answer; empty if it was not measured",
    "flags": "`simulated` or `external` if it applies, joined by +; empty for people in a study by evalkit",
}
SCORE_COLUMNS = {
    "metric": "name of the metric",
    "signature": "the metric's recipe; values with different signatures must not be compared",
    "direction": "`higher` or `lower`: which values are better; `none`: neither",
    "case": "the case: concepts and prompt",
    "seed": "seed of the initial noise",
    "arm": "arm that generated the image",
    "concept": "concept the image was compared with; empty if the metric needs none",
    "other_arm": "arm whose image it was compared with; empty if the metric reads one image",
    "value": "the unrounded score",
}


def codebook() -> str:
    """Return the codebook as Markdown."""
    parts = ["# Codebook", ""]
    for name, columns in (("votes.csv: one row per vote", VOTE_COLUMNS), ("scores.csv: one row per score", SCORE_COLUMNS)):
        parts += [f"## {name}", "", "| column | meaning |", "|---|---|"]
        parts += [f"| `{column}` | {meaning} |" for column, meaning in columns.items()] + [""]
    return "\n".join(parts)
