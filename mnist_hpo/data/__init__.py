"""Datasets: their sources, checks, splits and cache, and how to read them.

`registry` finds a dataset by name, or makes one from a user's folder. `dataset` describes a dataset without reading its
files. `prepare` checks, splits and caches it, once per machine. `arrays` reads the train and valid rows (NumPy only,
for workers). `held_out` reads the test rows (for the champion only).
"""
