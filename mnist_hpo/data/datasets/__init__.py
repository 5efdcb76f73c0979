"""The datasets that a study file can name: one module per dataset, which exports `DATASET`."""
