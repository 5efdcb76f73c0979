"""Compute tables and figures from a study's records.

Report, comparison, command line and MLflow's plots all use these functions, so they show the same values. All modules
are pure except `reading` and `champion_files`, which read the input.
"""
