"""From a study's records to tables and figures; each quantity is computed in one place, here.

Report, comparison, command line and MLflow's plots all ask these functions, so they cannot tell different things. All
are pure but for `reading` and `champion_files`, which read what the others are given.
"""
