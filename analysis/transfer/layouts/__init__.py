"""Layouts of vote files from other tools: one file and one entry in `LAYOUTS` per tool."""

from analysis.transfer.layouts.arena import arena
from analysis.transfer.layouts.dreambench import dreambench
from analysis.transfer.layouts.google_forms import google_forms
from analysis.transfer.layouts.imagenhub import imagenhub
from analysis.transfer.layouts.label_studio import label_studio
from analysis.transfer.layouts.potato import potato
from analysis.transfer.layouts.prolific import prolific
from analysis.transfer.layouts.tidy_layout import tidy
from analysis.transfer.vote_layout import VoteLayout

LAYOUTS: dict[str, VoteLayout] = {
    layout.name: layout for layout in (tidy, prolific, google_forms, label_studio, potato, arena, imagenhub, dreambench)
}
