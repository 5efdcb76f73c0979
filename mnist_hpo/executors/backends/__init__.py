"""The executors that `--executor NAME` selects: one file each, which exports `EXECUTOR`, its factory.

A factory is called with the number of workers, or None for as many as make sense, and returns an `Executor`.
"""
