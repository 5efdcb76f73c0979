"""The Python API: what `mnist_hpo` exports, and what it shares with the command line.

Its functions print nothing but their progress, raise errors as exceptions, and leave the caller's process as it is: the
environment, MLflow's state, warning filters, signal handlers and log levels.
"""
