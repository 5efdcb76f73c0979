"""The Python API that `mnist_hpo` exports, and code that it shares with the command line.

Its functions print nothing but progress, raise errors as exceptions, and do not change the state of the caller's
process: the environment, MLflow's state, warning filters, signal handlers and log levels.
"""
