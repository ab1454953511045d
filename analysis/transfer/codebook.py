"""Codebook of the tidy files: every column and every code."""

VOTE_COLUMNS = {
    "participant": "pseudonym of the participant; in an export of a study, P and the id of participants.csv",
    "case": "the case: concepts and prompt",
    "seed": "seed of the initial noise, equal for all images of a vote",
    "concepts": "concepts of the case in the order of the prompt, joined by +",
    "question": "`overall` for the vote that is analyzed; further questions by their name, such as `quality`",
    "arm_left": "arm whose image was shown on the left",
    "arm_right": "arm whose image was shown on the right",
    "chosen_arm": "the preferred arm, or `tie` for `cannot tell`; an import also takes `both_bad`, which is read as a tie",
    "order": "position of the vote among the votes of its participant, from 1; answers about one comparison share it",
    "response_ms": "milliseconds from all images being shown to the answer; empty if it was not measured",
    "flags": "joined by +: `external` (collected by another tool), `simulated` (no person), `excluded` (participant excluded "
    "by the study's rules), `surplus` (came after its place was taken); votes with the last two are not analyzed",
}
UNSIDED_VOTE_COLUMNS = {
    "arm_a": "one of the two arms, instead of arm_left; the side on which its image was shown is not known",
    "arm_b": "the other arm, instead of arm_right",
}
RANK_VOTE_COLUMNS = {
    "arm": "arm whose image was shown; instead of arm_left, arm_right and chosen_arm, with one row per vote and arm",
    "place": "position of the image on the page, from 1 on the left; empty if it is not known",
    "rank": "1 for the best; in a best-of-N vote all others have 2; equal for all arms in a tie",
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
SECTIONS = {
    "votes.csv: one row per vote": VOTE_COLUMNS,
    "votes.csv if sides are not known": UNSIDED_VOTE_COLUMNS,
    "votes.csv of rankings and best-of-N votes": RANK_VOTE_COLUMNS,
    "scores.csv: one row per score": SCORE_COLUMNS,
}


def codebook() -> str:
    """Return the codebook as Markdown."""
    parts = ["# Codebook", ""]
    for name, columns in SECTIONS.items():
        parts += [f"## {name}", "", "| column | meaning |", "|---|---|"]
        parts += [f"| `{column}` | {meaning} |" for column, meaning in columns.items()] + [""]
    return "\n".join(parts)
