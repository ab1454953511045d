"""The blind study: who judges what, in which order, and the pages they see."""
