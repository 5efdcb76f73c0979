"""The detector: two small networks that tell pictures without a digit from digits.

Their mistakes differ, so both together find more than either.
"""

from __future__ import annotations

from mnist_hpo.spec.parameter import ParameterSet

_COMMON = {"batch_size": 128, "dropout": 0.1, "schedule": "one_cycle"}
NETWORKS: tuple[tuple[str, ParameterSet], ...] = (
    ("mlp", {"depth": 1, "width": 96, "learning_rate": 3e-3, **_COMMON}),
    (
        "cnn",
        {"channels": 8, "learning_rate": 4e-3, "rotation": 8.0, "translation": 1.0, "scaling": 0.08, **_COMMON},
    ),
)
"""Model and hyperparameters of each network."""
OTHER, DIGIT, N_CLASSES = 0, 1, 2
"""The classes of the networks."""
