"""The metric registry: one file per metric or family of near-identical metrics, and one name per metric in this list."""

from evalkit.metric_spec.metric_card import by_name
from evalkit.metrics.arniqa import arniqa
from evalkit.metrics.between_arms import arm_dino, arm_lpips, arm_psnr, arm_similarity, arm_ssim
from evalkit.metrics.brisque import brisque
from evalkit.metrics.concepts import (
    all_present,
    concept_count,
    concept_duplicates,
    concept_identity,
    concept_margin,
    concept_presence,
    concept_swap,
)
from evalkit.metrics.dbcnn import dbcnn
from evalkit.metrics.diversity import diversity_clip, diversity_dino, diversity_lpips, diversity_vendi
from evalkit.metrics.entropy import entropy
from evalkit.metrics.musiq import musiq
from evalkit.metrics.nima import nima
from evalkit.metrics.niqe import niqe
from evalkit.metrics.piqe import piqe
from evalkit.metrics.prompt_fidelity import clip_t, hpsv2, pickscore
from evalkit.metrics.subject_fidelity import clip_i, dino, dinov2
from evalkit.metrics.tres import tres

METRICS = by_name(
    clip_t, clip_i, dino, dinov2, hpsv2, pickscore,
    concept_presence, concept_count, concept_identity, concept_margin, concept_swap, concept_duplicates, all_present,
    arm_similarity, arm_dino, arm_psnr, arm_ssim, arm_lpips,
    diversity_clip, diversity_dino, diversity_lpips, diversity_vendi,
    musiq, arniqa, nima, tres, dbcnn, piqe, niqe, brisque, entropy,
)  # fmt: skip
