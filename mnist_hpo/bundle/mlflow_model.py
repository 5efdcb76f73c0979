"""The MLflow model over a bundle, as code (MLflow runs this file when it loads the model): nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.pixels import to_pixels
from mnist_hpo.spec.errors import UserError


class BundleModel(PythonModel):
    """Images of 0 to 255 in, as `to_pixels` takes them; probabilities f32[n, n_classes] out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle that was logged with the model, and check its digests."""
        self._bundle = load_bundle(Path(context.artifacts["bundle"]))

    # MLflow warns of every type hint that it cannot turn into a schema, `np.ndarray[Any, Any]` among them. The bare
    # class is the one that it lets pass.
    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # by that hint alone
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """Return the probability of each digit, for each image.

        Raises:
            MlflowException: the input is not images of 0 to 255.

        """
        try:
            pixels = to_pixels(model_input, self._bundle.model.image_shape)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return np.exp(self._bundle.log_probabilities(pixels))


set_model(BundleModel())
