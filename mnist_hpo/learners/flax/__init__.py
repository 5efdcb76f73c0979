"""Flax modules: pure jitted functions of arrays (`core`), and the host's part of an epoch around them (`learner`)."""
