"""A trained model on disk: weights, architecture, preprocessing, provenance. Tensors and JSON; nothing executes."""
