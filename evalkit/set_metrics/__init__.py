"""Metrics of whole sets of images: one small file each, and one name in this list."""

from types import MappingProxyType

from evalkit.set_metrics.cmmd import cmmd
from evalkit.set_metrics.fid import fid
from evalkit.set_metrics.kid import kid
from evalkit.set_metrics.latent_kl import latent_kl

SET_METRICS = MappingProxyType({metric.name: metric for metric in (fid, kid, cmmd, latent_kl)})
