"""The datasets that a study file can name: one file for each, which exports `DATASET`."""
