"""Convert a stored model's prediction to StableHLO or ONNX, so that other programs can run it without this package.

Both take raw pixels u8[n, n_features] for any n, and return log-probabilities f32[n, n_classes].
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import Bundle, bundle_of, within
from mnist_hpo.bundle.combination import Method, combine
from mnist_hpo.bundle.quantization import dequantize
from mnist_hpo.bundle.reading import StoredModel, read_model
from mnist_hpo.bundle.writing import COMBINATION, ENSEMBLE
from mnist_hpo.learners.factory import make_portable
from mnist_hpo.learners.protocol import PortablePredictor, Predictor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors

Runtime = Literal["jax", "onnx"]
"""What computes predictions: JAX with this package's kernels, or ONNX Runtime."""
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
STABLEHLO_FILE, ONNX_FILE = "model.stablehlo", "model.onnx"
PROGRAMS = "programs"
"""The field of `model.json` that describes the programs by file name."""
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""The platforms that the StableHLO program is lowered for."""
OPSET = 21
"""The version of ONNX's operators."""
LARGEST_DIFFERENCE = 0.05
"""Of a probability, between the original and a converted model. Between bf16 and fp32 it is below 0.02."""
_N_CHECKED = 64
_IMAGES, _LOG_PROBABILITIES = "images", "log_probabilities"


def stablehlo(stored: StoredModel, tensors: Tensors) -> bytes:
    """Return the prediction as a StableHLO program, serialized by `jax.export`.

    Its arguments are the arrays by name as they are in the file of weights, and the images. It computes in the model's
    own precision.

    Args:
        stored: the model.
        tensors: the arrays in the file of weights, which may be quantized.

    Raises:
        UserError: the model, or a member of the ensemble, is not a neural network.

    """
    import jax
    from jax import export

    predict = _predictor(stored, fp32=False)

    def from_file(tensors: Mapping[str, Any], images: Any) -> Any:
        return predict(dequantize(tensors), images)

    (n_images,) = export.symbolic_shape("n")
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in tensors.items()}
    images = jax.ShapeDtypeStruct((n_images, _n_features(stored)), np.uint8)
    exported: Callable[..., Any] = export.export(jax.jit(from_file), platforms=PLATFORMS)
    return bytes(exported(shapes, images).serialize())


def load_stablehlo(program: bytes, tensors: Tensors) -> Predictor:
    """Return the prediction by a StableHLO program, from images u8[n, ...]."""
    from jax import export

    call = export.deserialize(bytearray(program)).call
    return lambda images: np.asarray(call(dict(tensors), images.reshape(len(images), -1)))


def onnx_model(stored: StoredModel) -> bytes:
    """Return the prediction as an ONNX model with the weights inside. It computes in fp32.

    Raises:
        UserError: the extra `onnx` is not installed, or the model or a member of the ensemble is no neural network.

    """
    import jax

    predict = _predictor(stored, fp32=True)
    with _quiet():
        try:
            from jax2onnx import to_onnx
        except ImportError:
            raise UserError("ONNX needs the extra `onnx`, which scripts/setup --dev installs") from None
        from jax.export import symbolic_shape

        images = jax.ShapeDtypeStruct((*symbolic_shape("n"), _n_features(stored)), np.uint8)
        converted: Any = to_onnx(
            lambda images: predict(stored.tensors, images),
            [images],
            model_name="mnist_hpo",
            opset=OPSET,
            input_names=[_IMAGES],
            output_names=[_LOG_PROBABILITIES],
        )
    return converted.SerializeToString()


def load_onnx(model: bytes) -> Predictor:
    """Return the prediction by ONNX Runtime with one thread, from images u8[n, ...]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # Errors only: the converter's notes on shapes cause warnings.
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: Any
        (found,) = session.run([_LOG_PROBABILITIES], {_IMAGES: images.reshape(len(images), -1)})
        return found

    return predict


def load_with_onnx_runtime(directory: Path) -> Bundle:
    """Read a model that ONNX Runtime predicts with.

    The ONNX model is converted from the checked weights. A file model.onnx in the folder is not used: it could come
    from anywhere, and what it computes cannot be bounded before it runs.

    Raises:
        UserError: the folder has no model, or it cannot be converted.

    """
    stored = read_model(directory)
    original = bundle_of(stored, directory)
    predict = load_onnx(onnx_model(stored))
    check_agreement(stored, original.predictor, predict, "ONNX model")
    return dataclasses.replace(original, predictor=predict)


def check_agreement(stored: StoredModel, original: Predictor, predict: Predictor, name: str) -> None:
    """Refuse a converted model whose answers to a few random images are not those of the original.

    Raises:
        UserError: a probability differs by more than precisions do.

    """
    images = np.random.default_rng(0).integers(0, 256, (_N_CHECKED, *stored.model.image_shape), dtype=np.uint8)
    difference = np.abs(np.exp(predict(images)) - np.exp(original(images))).max()
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"the {name}'s probabilities differ from the original's by up to {difference:.3f}, so it is not used; "
            "please report this model"
        )


@contextmanager
def _quiet() -> Generator[None]:
    """Hide the converter's own warnings: about its examples, about shapes that it infers, and about Flax."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _predictor(stored: StoredModel, *, fp32: bool) -> PortablePredictor:
    model = stored.model
    precision = {"precision": "fp32"} if fp32 else {}
    if model.model != ENSEMBLE:
        return make_portable(model.model, {**model.parameters, **precision}, model.image_shape, model.n_classes)
    method = cast(Method, model.parameters["method"])
    members = [
        make_portable(member["model"], {**member["parameters"], **precision}, model.image_shape, model.n_classes)
        for member in stored.members
    ]

    def predict(tensors: Mapping[str, Any], images: Any) -> Any:
        import jax.numpy as jnp

        found = [member(within(tensors, str(index)), images) for index, member in enumerate(members)]
        log_probabilities: Any = jnp.stack(found)
        return combine(method, within(tensors, COMBINATION), log_probabilities, jnp)

    return predict


def _n_features(stored: StoredModel) -> int:
    return int(np.prod(stored.model.image_shape))
