"""Metrics of whole sets of images: one small file each, and one name in this list."""

from types import MappingProxyType

from evalkit.sets.cmmd import cmmd
from evalkit.sets.fid import fid
from evalkit.sets.kid import kid
from evalkit.sets.latent_kl import latent_kl

SET_METRICS = MappingProxyType({metric.name: metric for metric in (fid, kid, cmmd, latent_kl)})
