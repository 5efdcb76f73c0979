"""The durable record of studies: an Optuna storage, the lock of a study, and the trials read from the storage."""

DEFAULT_STORAGE = "sqlite:///mlruns/optuna.db"
"""The default storage, in the working directory."""
