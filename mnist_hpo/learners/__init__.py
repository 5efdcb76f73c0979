"""How a configuration learns: one protocol, and two families behind it, `flax` and `sklearn`.

No files, no globals, no clock decides a number here: the same configuration, data and seed give the same bits.
"""
