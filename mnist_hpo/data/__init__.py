"""Datasets: where they come from, how they are checked, split and cached, and how they are read.

`registry` finds a dataset by its name, or makes one of a user's folder; `dataset` says what is known of it beforehand;
`prepare` makes it ready, once a machine; `arrays` reads what training may see (NumPy only, for workers); `held_out`
reads the test split (for the champion only).
"""
