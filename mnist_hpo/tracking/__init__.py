"""MLflow as a projection of the storage: `projection` writes it, `tracker` does so in the background of a search."""
