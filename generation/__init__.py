"""Generate fixed-seed image sets with every merge method."""
