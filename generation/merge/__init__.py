"""Merge methods: a small file and a name in this list each."""

from generation.merge.direct import direct
from generation.merge.mc_dropout import mc_dropout
from generation.merge.method import by_name
from generation.merge.orthogonal_mc_dropout import orthogonal_mc_dropout

MERGE_METHODS = by_name(direct, mc_dropout, orthogonal_mc_dropout)
