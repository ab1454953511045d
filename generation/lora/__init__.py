"""LoRA files: reading every common key form, the changes of weights they hold, and key names for other programs."""
