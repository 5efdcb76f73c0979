"""Datasets: where they come from, how they are checked, split and cached, and how they are read.

`prepare` makes a dataset ready, once a machine; `arrays` reads what training may see (NumPy only, for workers);
`held_out` reads the test split (for the champion only); `registry` says what datasets there are.
"""
