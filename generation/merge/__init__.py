"""Merge methods: a small file and a name in this list each."""

from generation.merge.b_lora import b_lora
from generation.merge.block_rows import block_rows
from generation.merge.blocklora import blocklora
from generation.merge.cat import cat
from generation.merge.dare_linear import dare_linear
from generation.merge.dare_ties import dare_ties
from generation.merge.direct import direct
from generation.merge.fedavg import fedavg
from generation.merge.gradient_fusion import gradient_fusion
from generation.merge.k_lora import k_lora
from generation.merge.knots import knots
from generation.merge.lora_composite import lora_composite
from generation.merge.lora_switch import lora_switch
from generation.merge.magnitude_prune import magnitude_prune
from generation.merge.mc_dropout import mc_dropout
from generation.merge.method import by_name
from generation.merge.mix_of_show import mix_of_show
from generation.merge.np_lora import np_lora
from generation.merge.orthogonal_adaptation import orthogonal_adaptation
from generation.merge.orthogonal_mc_dropout import orthogonal_mc_dropout
from generation.merge.regmean import regmean
from generation.merge.ssr import ssr
from generation.merge.svd import svd
from generation.merge.ties import ties
from generation.merge.tsv import tsv
from generation.merge.ziplora import ziplora

MERGE_METHODS = by_name(
    direct,
    mc_dropout,
    orthogonal_mc_dropout,
    fedavg,
    svd,
    ties,
    dare_linear,
    dare_ties,
    magnitude_prune,
    knots,
    tsv,
    np_lora,
    block_rows,
    b_lora,
    cat,
    mix_of_show,
    blocklora,
    orthogonal_adaptation,
    lora_switch,
    lora_composite,
    k_lora,
    gradient_fusion,
    regmean,
    ssr,
    ziplora,
)
