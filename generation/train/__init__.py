"""Train a LoRA for one concept: DreamBooth with prior preservation (Ruiz 2023, arXiv 2208.12242)."""
