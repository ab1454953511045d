"""The papers whose tables `evalkit paper` makes, by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One paper: its name on the command line, what its script makes, and whether that includes a user study."""

    name: str
    summary: str
    has_votes: bool

    @property
    def module(self) -> str:
        """Return the module that holds the paper's `parts`."""
        return f"analysis.papers.{self.name}"


PAPERS = {
    paper.name: paper
    for paper in (
        Paper("orthogonal_mc_dropout", "Tables 1 and 2: similarity and user study, metrics per arm", True),
        Paper("blocklora", "Tables 1, 2 and 3 and Figure 5: alignment, users' preference, ablation, identity", True),
        Paper("noise_consistency", "Table 1: DINO, CLIP-I and CLIP-T, with its row of real images", False),
    )
}
