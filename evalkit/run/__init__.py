"""The run folder: manifest, image records, score table, feature cache, import."""
