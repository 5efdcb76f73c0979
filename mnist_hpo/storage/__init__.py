"""The durable record: an Optuna storage that is the truth, its study lock, and what is read back from it."""

DEFAULT_STORAGE = "sqlite:///mlruns/optuna.db"
"""In the working folder, where nothing else is said."""
