"""Samplers: they propose the hyperparameters of a trial from those that ran before. See `make_sampler`."""
