"""Real bundles of each kind, and changes to them whose digests are correct, so that they reach the code behind."""

import copy
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mnist_hpo.bundle.quantization import quantize
from mnist_hpo.bundle.writing import (
    COMBINATION,
    DESCRIPTION,
    DESCRIPTION_SHA256,
    DOUBT,
    DOUBT_FILE,
    FILES,
    Model,
    ModelDescription,
    description_sha256,
    folder_files,
)
from mnist_hpo.doubt.networks import N_CLASSES, NETWORKS
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.parameter import ParameterSet

Folder = dict[str, bytes]
"""The content of each file by name."""
Edit = Callable[[Folder], None]

_SHAPE, _N_CLASSES = (28, 28, 1), 10
_MODELS: dict[str, tuple[str, ParameterSet]] = {
    "mlp": ("mlp", {"depth": 1, "width": 8, "precision": "fp32", "normalization": "batch"}),
    "logistic": ("logistic", {"max_iter": 2}),
    "forest": ("forest", {"n_trees": 3}),
    "knn": ("knn", {"deskew": "yes", "n_candidates": 10}),
    "svm": ("svm", {"n_components": 5}),
    "linear svm": ("svm", {"kernel": "linear"}),
}
_PROVENANCE = {"study": "small", "trial": 7, "seed": 1, "dataset_digest": "0" * 64}


def make_bundles(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, Folder]:
    """Return a bundle of each kind, trained on images u8[E, 784], except that networks have initial weights."""
    examples = Examples(images.reshape(-1, *_SHAPE), labels)
    found = {name: _model(examples, *each) for name, each in _MODELS.items()}
    mlp, logistic = found["mlp"], found["logistic"]
    bundles = {name: folder_files(model) for name, model in found.items()}
    bundles["int8"] = folder_files(Model(mlp.description, quantize(mlp.tensors, "int8"), _PROVENANCE))
    bundles["bf16"] = folder_files(Model(mlp.description, quantize(mlp.tensors, "bf16"), _PROVENANCE))
    bundles["average"] = folder_files(_ensemble([mlp, logistic], "average", {"weights": np.array([1.0, 2.0])}))
    coefficients = {"coefficients": np.full((20, 10), 0.1), "intercepts": np.zeros(10)}
    bundles["stacking"] = folder_files(_ensemble([logistic, mlp], "stacking", coefficients))
    bundles["with a detector"] = folder_files(_with_detector(logistic, examples))
    bundles["format 2"] = _format_2(found["mlp"])
    return bundles


def _model(examples: Examples, name: str, parameters: ParameterSet) -> Model:
    learner = LearnerFactory().make(TrainingConfig(name, parameters, 1, 1), examples, n_classes=_N_CLASSES)
    state = learner.start()
    if not learner.model(state):  # An estimator has nothing before it is fitted.
        state = learner.advance(state, 1).state
    return Model(ModelDescription(name, parameters, _SHAPE, _N_CLASSES), learner.model(state), _PROVENANCE)


def _ensemble(members: list[Model], method: str, combination: Tensors) -> Model:
    tensors = {f"{COMBINATION}/{name}": array for name, array in combination.items()}
    for number, member in enumerate(members):
        tensors |= {f"{number}/{name}": array for name, array in member.tensors.items()}
    description = ModelDescription("ensemble", {"method": method, "n_members": len(members)}, _SHAPE, _N_CLASSES)
    kinds = [{"model": one.description.model, "parameters": dict(one.description.parameters)} for one in members]
    return Model(description, tensors, _PROVENANCE, kinds)


def _with_detector(model: Model, examples: Examples) -> Model:
    tensors: dict[str, NDArray[Any]] = {}
    for number, (name, parameters) in enumerate(NETWORKS):
        learner = LearnerFactory().make(TrainingConfig(name, parameters, 1, 1), examples, n_classes=N_CLASSES)
        tensors |= {f"{number}/{key}": array for key, array in learner.model(learner.start()).items()}
    doubt = {"centres": [0.0] * 3, "scales": [1.0] * 3, "threshold": 5.0}
    return Model(model.description, model.tensors, _PROVENANCE, (), {DOUBT: doubt}, {DOUBT_FILE: save(tensors)})


def _format_2(mlp: Model) -> Folder:
    """Return a network as an earlier version wrote it."""
    content = save(dict(mlp.tensors))
    parameters = dict(mlp.description.parameters)
    program = {
        "model": "mlp",
        "n_features": 784,
        "n_classes": 10,
        "architecture": {name: parameters[name] for name in ("depth", "width", "normalization")},
        "batch_size": 50,
        "optimizer": "adam",
        "precision": "fp32",
    }
    description = {"format": 2, "program": program, "provenance": _PROVENANCE}
    description["weights_sha256"] = hashlib.sha256(content).hexdigest()
    description[DESCRIPTION_SHA256] = description_sha256(description)
    return {"weights.safetensors": content, DESCRIPTION: json.dumps(description).encode()}


def with_correct_digests(folder: Folder) -> None:
    """Write the sizes and digests of all files into the description, where it is JSON with fields for them."""
    try:
        description = json.loads(folder[DESCRIPTION])
    except (ValueError, RecursionError, KeyError):
        return
    if not isinstance(description, dict):
        return
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in folder.items()}
    if "weights_sha256" in description:
        description["weights_sha256"] = sha256.get("weights.safetensors")
    listed = description.get(FILES)
    for name, entry in listed.items() if isinstance(listed, dict) else ():
        if isinstance(entry, dict) and name in folder:
            entry |= {"n_bytes": len(folder[name]), "sha256": sha256[name]}
    description[DESCRIPTION_SHA256] = description_sha256(description)
    folder[DESCRIPTION] = json.dumps(description).encode()


_SCALARS = st.sampled_from(
    [
        *(None, True, False, -1, 0, 1, 2, 10, 255, 4096, 10**6, 2**31, 2**63, 2**64, 10**400),
        *(0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf")),
        *("", "mlp", "cnn", "knn", "forest", "svm", "rnn", "transformer", "logistic", "ensemble", "stacking", "vote"),
        *("yes", "../mlp", "mnist_hpo.cli", "os", "\ud800", "\x1b[31m\x00", "a" * 5000, "bf16", "batch", "rbf"),
    ]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["model", "method", "x"]), inner),
    max_leaves=5,
)


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, Edit]:
    """Return an edit of a bundle, and its name. The digests are made to fit afterwards."""
    return draw(st.one_of(_json_edits(), _header_edits(), _tensor_edits(), _byte_edits()))


@st.composite
def _json_edits(draw: st.DrawFn) -> tuple[str, Edit]:
    choices, value = draw(st.lists(st.integers(0, 30), min_size=1, max_size=5)), draw(_VALUES)
    kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))

    def edit(folder: Folder) -> None:
        try:
            description = json.loads(folder[DESCRIPTION])
        except ValueError:
            return
        holder, key = _place(description, choices)
        if holder is None:
            return
        if kind == "remove":
            del holder[key]
        elif kind == "replace":
            holder[key] = copy.deepcopy(value)
        elif isinstance(holder, dict):
            holder["model.py"] = copy.deepcopy(value)
        else:
            holder.append(copy.deepcopy(value))
        folder[DESCRIPTION] = json.dumps(description).encode()

    return f"{kind} the JSON value at {choices} ({value!r:.100})", edit


def _place(document: Any, choices: list[int]) -> tuple[Any, Any]:
    """Return the container and the key to which these choices lead; (None, None) where there is no container."""
    holder, key = None, None
    for choice in choices:
        if not isinstance(document, dict | list) or not document:
            break
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        holder, key = document, keys[choice % len(keys)]
        document = holder[key]
    return holder, key


@st.composite
def _header_edits(draw: st.DrawFn) -> tuple[str, Edit]:
    number = draw(st.integers(0, 30))
    field = draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", "remove", "metadata"]))
    dtype = draw(
        st.sampled_from(["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "U16", "BOOL", "F8_E4M3", "C64", "", 1])
    )
    sizes = st.integers(0, 12) | st.sampled_from([784, 2**31, 2**32, 2**62, 2**63, 2**64, -1, 0.5])
    shape = draw(st.lists(sizes, max_size=4) | st.just([1] * 70))
    offsets = draw(st.lists(st.integers(0, 100_000) | st.sampled_from([2**63, 2**64, -1]), max_size=3))
    names = draw(
        st.sampled_from(["0/x", "logits.kernel:bf16", "logits.kernel:scale", ":bf16", ":scale", "", "x" * 10_000])
    )
    new: dict[str, Any] = {"dtype": dtype, "shape": shape, "data_offsets": offsets, "metadata": {"__metadata__": names}}

    def edit(folder: Folder) -> None:
        name = _a_tensor_file(folder, number)
        header, data = _split(folder[name])
        if not header:
            return
        tensors = sorted(header)
        tensor = tensors[number % len(tensors)]
        if field == "name":
            header[names] = header.pop(tensor)
        elif field == "remove":
            del header[tensor]
        elif field == "metadata":
            header["__metadata__"] = new[field]
        else:
            header[tensor][field] = new[field]
        text = json.dumps(header).encode()
        folder[name] = struct.pack("<Q", len(text)) + text + data

    return f"header, tensor {number}: {field} {new.get(field, names)!r:.100}", edit


@st.composite
def _tensor_edits(draw: st.DrawFn) -> tuple[str, Edit]:
    number, index = draw(st.integers(0, 30)), draw(st.integers(-1, 10_000))
    value = draw(
        st.sampled_from([0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**62, 1e30, -3e38, 1e300, np.nan, np.inf, -np.inf])
    )
    dtype = draw(st.sampled_from([None, None, None, "f4", "f8", "f2", "i8", "i4", "u1", "i1", "u2", "?"]))
    reshaped = draw(st.sampled_from(["same", "same", "same", "flat", "transposed", "half", "empty", "deeper"]))

    def edit(folder: Folder) -> None:
        name = _a_tensor_file(folder, number)
        try:
            tensors = load(folder[name])
        except Exception:
            return  # An edit before this one has made it another file.
        if not tensors:
            return
        chosen = sorted(tensors)[number % len(tensors)]
        array = np.array(tensors[chosen])
        with np.errstate(all="ignore"):
            if dtype is not None:
                array = array.astype(dtype)
            if index < 0:
                array[...] = _cast(value, array.dtype)
            elif array.size:
                array.reshape(-1)[index % array.size] = _cast(value, array.dtype)
        changes: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
            "flat": lambda a: a.reshape(-1),
            "transposed": lambda a: a.T,
            "half": lambda a: a[: len(a) // 2] if a.ndim else a,
            "empty": lambda a: a.reshape(-1)[:0],
            "deeper": lambda a: a[None],
        }
        tensors[chosen] = np.ascontiguousarray(changes.get(reshaped, lambda a: a)(array))
        if reshaped == "same":
            tensors[chosen] = tensors[chosen].reshape(array.shape)
        folder[name] = save(tensors)

    return f"tensor {number}: {value} at {index}, {dtype}, {reshaped}", edit


def _cast(value: float, dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        value = 0 if value != value else value
        return int(min(max(value, limits.min), limits.max))
    return value


@st.composite
def _byte_edits(draw: st.DrawFn) -> tuple[str, Edit]:
    number, position = draw(st.integers(0, 30)), draw(st.integers(0, 3000))
    new = draw(st.binary(max_size=12))
    kind = draw(st.sampled_from(["replace", "insert", "cut"]))

    def edit(folder: Folder) -> None:
        name = sorted(folder)[number % len(folder)]
        content = folder[name]
        rest = {"replace": content[position + len(new) :], "insert": content[position:], "cut": b""}[kind]
        folder[name] = content[:position] + new + rest

    return f"{kind} bytes {new!r} at {position} of file {number}", edit


def _a_tensor_file(folder: Folder, number: int) -> str:
    names = [name for name in sorted(folder) if name.endswith(".safetensors")]
    # Most bundles have one; the detector's is the second.
    return names[number % len(names)]


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    (n_bytes,) = struct.unpack("<Q", content[:8]) if len(content) >= 8 else (0,)
    try:
        header = json.loads(content[8 : 8 + n_bytes])
    except (ValueError, RecursionError):
        return {}, b""
    ok = isinstance(header, dict) and all(isinstance(entry, dict) for entry in header.values())
    return (header, content[8 + n_bytes :]) if ok else ({}, b"")
