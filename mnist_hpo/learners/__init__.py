"""Training of a configuration: one protocol, `Learner`, with two families of implementations, `flax` and `sklearn`.

Results depend on no file, global variable or clock: the same configuration, data and seed give the same bits.
"""
