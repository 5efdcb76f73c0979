"""The training core: pure jitted functions of arrays (`core`), and the thin host loop that drives them (`trainer`).

No files, no globals, no clock decides a number here: the same configuration, data and seed give the same bits.
"""
