"""Each paper's tables as one short script: run it on your run, or copy it for your own design."""
