"""The metrics: one small file each, and one name in this list."""

from evalkit.metric_spec.metric_card import by_name
from evalkit.metrics.arm_dino import arm_dino
from evalkit.metrics.arm_lpips import arm_lpips
from evalkit.metrics.arm_psnr import arm_psnr
from evalkit.metrics.arm_similarity import arm_similarity
from evalkit.metrics.arm_ssim import arm_ssim
from evalkit.metrics.arniqa import arniqa
from evalkit.metrics.brisque import brisque
from evalkit.metrics.clip_i import clip_i
from evalkit.metrics.clip_t import clip_t
from evalkit.metrics.dbcnn import dbcnn
from evalkit.metrics.dino import dino
from evalkit.metrics.dinov2 import dinov2
from evalkit.metrics.diversity_clip import diversity_clip
from evalkit.metrics.diversity_dino import diversity_dino
from evalkit.metrics.diversity_lpips import diversity_lpips
from evalkit.metrics.diversity_vendi import diversity_vendi
from evalkit.metrics.entropy import entropy
from evalkit.metrics.hpsv2 import hpsv2
from evalkit.metrics.musiq import musiq
from evalkit.metrics.nima import nima
from evalkit.metrics.niqe import niqe
from evalkit.metrics.pickscore import pickscore
from evalkit.metrics.piqe import piqe
from evalkit.metrics.tres import tres

METRICS = by_name(
    clip_t, clip_i, dino, dinov2, hpsv2, pickscore,
    arm_similarity, arm_dino, arm_psnr, arm_ssim, arm_lpips,
    diversity_clip, diversity_dino, diversity_lpips, diversity_vendi,
    musiq, arniqa, nima, tres, dbcnn, piqe, niqe, brisque, entropy,
)  # fmt: skip
