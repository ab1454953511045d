"""Files in and out: images, JSON, atomic writes."""
