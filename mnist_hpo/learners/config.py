"""The configuration of a training. Imports no JAX, because the coordinator uses it without training."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_hpo.spec.init_from import Layers
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.study import Keep


@dataclass(frozen=True)
class InitialWeights:
    """Another model's weights, which a training starts from."""

    path: str
    """The file that contains them; see `stored_weights`. Results depend on the content alone."""
    sha256: str
    layers: Layers
    learning_rate_factor: float
    """Multiplies the learning rate of these layers."""

    @property
    def learning_rate_factors(self) -> tuple[float, float]:
        """The factors of the last layer's learning rate and of the others'."""
        return (1.0 if self.layers == "all_but_last" else self.learning_rate_factor), self.learning_rate_factor


@dataclass(frozen=True)
class TrainingConfig:
    """Everything except the data that determines the result of a training."""

    model: str
    parameters: ParameterSet
    seed: int
    max_epochs: int
    patience_epochs: int | None = None
    schedule_epochs: int | None = None
    """The length of the learning-rate schedule if it is not `max_epochs`: a re-training that stops at the kept epoch
    still follows the trial's schedule."""
    initial: InitialWeights | None = None
    """None: random weights."""
    keep: Keep = "best"
    """The epoch whose model is kept, if the training is validated."""
