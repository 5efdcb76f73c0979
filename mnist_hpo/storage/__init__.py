"""The durable record: an Optuna storage that is the truth, its study lock, and what is read back from it."""
