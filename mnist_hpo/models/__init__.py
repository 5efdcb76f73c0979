"""Flax modules by name. `registry` knows their hyperparameters without loading JAX; each model has its own module."""
