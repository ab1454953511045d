"""Registry of merge methods: each is one file and one entry in this list."""

from generation.merge.method import by_name
from generation.merge.methods.b_lora import b_lora
from generation.merge.methods.block_rows import block_rows
from generation.merge.methods.blocklora import blocklora
from generation.merge.methods.breadcrumbs import breadcrumbs
from generation.merge.methods.cat import cat
from generation.merge.methods.dare_linear import dare_linear
from generation.merge.methods.dare_ties import dare_ties
from generation.merge.methods.della import della
from generation.merge.methods.direct import direct
from generation.merge.methods.fedavg import fedavg
from generation.merge.methods.gradient_fusion import gradient_fusion
from generation.merge.methods.iso_c import iso_c
from generation.merge.methods.iso_cts import iso_cts
from generation.merge.methods.k_lora import k_lora
from generation.merge.methods.karcher import karcher
from generation.merge.methods.knots import knots
from generation.merge.methods.lora_composite import lora_composite
from generation.merge.methods.lora_switch import lora_switch
from generation.merge.methods.magnitude_prune import magnitude_prune
from generation.merge.methods.mc_dropout import mc_dropout
from generation.merge.methods.mix_of_show import mix_of_show
from generation.merge.methods.np_lora import np_lora
from generation.merge.methods.orthogonal_adaptation import orthogonal_adaptation
from generation.merge.methods.orthogonal_mc_dropout import orthogonal_mc_dropout
from generation.merge.methods.regmean import regmean
from generation.merge.methods.sce import sce
from generation.merge.methods.ssr import ssr
from generation.merge.methods.svd import svd
from generation.merge.methods.ties import ties
from generation.merge.methods.tsv import tsv
from generation.merge.methods.ziplora import ziplora

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
    breadcrumbs,
    della,
    sce,
    knots,
    tsv,
    iso_c,
    iso_cts,
    karcher,
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
