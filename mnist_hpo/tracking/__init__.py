"""MLflow as a projection of the storage: `projection` writes it, in a process that `tracker` starts beside a search."""
