"""A trained model on disk as tensors and JSON: weights, architecture, preprocessing, provenance. Contains no code."""
