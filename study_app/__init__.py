"""The blind A/B study: assignment of comparisons, their order, and the pages."""
