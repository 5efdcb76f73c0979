"""Deterministic hyperparameter search on MNIST: the study file decides what is computed, the machine only how fast."""
