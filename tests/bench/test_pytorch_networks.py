"""Our networks equal those that PyTorch computes from the same weights: logits, loss and every gradient, in fp32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from program import program_of

from mnist_hpo.bench.pytorch_models.build import build
from mnist_hpo.kernels.softmax_loss import softmax_loss
from mnist_hpo.layers.dropout import no_dropout
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.learners.flax.variables import structure_of
from mnist_hpo.learners.flax.weights import named, unnamed
from mnist_hpo.learners.hyperparameters import complete

torch = pytest.importorskip("torch", reason="needs the extra bench: PyTorch")

Array = NDArray[Any]
Tensors = dict[str, Array]
N_EXAMPLES = 20
CASES: dict[str, dict[str, Any]] = {
    "mlp": {"depth": 2, "width": 32},
    "cnn-lenet": {"architecture": "lenet", "channels": 6, "kernel_size": 5, "activation": "tanh"},
    "cnn-lenet-even": {"architecture": "lenet", "channels": 3, "kernel_size": 4, "activation": "gelu"},
    "cnn-vgg": {"architecture": "vgg", "channels": 8},
    "rnn-gru": {"cell": "gru", "width": 24},
    "rnn-gru-both": {"cell": "gru", "width": 24, "depth": 2, "direction": "both"},
    "rnn-lstm": {"cell": "lstm", "width": 24, "depth": 2, "readout": "mean"},
    "rnn-lstm-both": {"cell": "lstm", "width": 24, "direction": "both"},
    "transformer": {"width": 32, "depth": 2},
    "transformer-token": {"width": 24, "n_heads": 3, "depth": 1, "patch_size": 10, "overlap": 3, "readout": "token"},
}


def examples() -> tuple[Array, Array]:
    random = np.random.default_rng(1)
    return random.random((N_EXAMPLES, 28, 28, 1), np.float32), random.integers(0, 10, N_EXAMPLES).astype(np.uint8)


def weights_of(program: Program) -> Tensors:
    """Return weights for which every gradient matters: biases, scales and running moments are drawn too."""
    state, random = initial_state(program, seed=0), np.random.default_rng(2)
    return {
        name: tensor + 0.1 * random.random(tensor.shape, np.float32) if tensor.ndim == 1 else tensor
        for name, tensor in named(state.parameters, state.statistics).items()
    }


def ours(program: Program, weights: Tensors, images: Array, labels: Array) -> tuple[Array, Array, float, Tensors]:
    """Return the logits in training and in evaluation, the loss, and the gradients by name."""
    structure = structure_of(program)
    parameters, statistics = jax.tree.map(jnp.asarray, unnamed(program, weights))

    def logits_of(graph: Any, parameters: Any) -> jax.Array:
        return nnx.merge(graph, parameters, statistics)(images.reshape(-1, *program.input_shape), no_dropout)

    def loss_of(parameters: Any) -> tuple[jax.Array, jax.Array]:
        logits = logits_of(structure.training, parameters)
        return softmax_loss(logits, jnp.asarray(labels), jnp.arange(N_EXAMPLES), jnp.float32(0)), logits

    (loss, logits), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(parameters)
    evaluated = jax.jit(lambda parameters: logits_of(structure.evaluation, parameters))(parameters)
    return np.asarray(logits), np.asarray(evaluated), float(loss), dict(named(gradients, {}))


def pytorch_name(model: str, depth: int, name: str) -> str:
    """Return the name in PyTorch of one of our tensors."""
    parts = name.split(".")
    if model == "rnn" and parts[0] == "layers":
        kind = {"projection.kernel": "weight_ih", "projection.bias": "bias_ih", "recurrent": "weight_hh"}
        reverse = "_reverse" if parts[2] == "1" else ""
        return f"layers.{kind['.'.join(parts[3:])]}_l{parts[1]}{reverse}"
    if model == "mlp":
        # Each hidden layer is three modules, after one that flattens the image.
        parts = [str(1 + 3 * int(parts[1])) if parts[0] == "hidden" else str(1 + 3 * depth), parts[-1]]
    last = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return ".".join([*parts[:-1], last.get(parts[-1], parts[-1])])


def to_pytorch(name: str, tensor: Array, shape: tuple[int, ...]) -> Array:
    """Return one of our tensors in PyTorch's layout: output before input, channels before pixels."""
    if tensor.ndim == 4:
        return tensor.transpose(3, 2, 0, 1)
    return tensor if tensor.ndim == 1 or name == "positions" else tensor.T.reshape(shape)


@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_equal_those_of_pytorch(case: str) -> None:
    model, own = case.split("-")[0], CASES[case]
    program, (images, labels) = program_of(model, precision="fp32", **own), examples()
    weights = weights_of(program)
    network = build(torch, model, complete(model, own | {"dropout": 0.0}))
    state = network.state_dict()
    names = {name: pytorch_name(model, int(own.get("depth", 1)), name) for name in weights}
    fixed = [name for name in state if "bias_hh" in name or "num_batches" in name]
    assert sorted([*names.values(), *fixed]) == sorted(state)
    with torch.no_grad():
        for name, tensor in weights.items():
            target = state[names[name]]
            target.copy_(torch.from_numpy(to_pytorch(name, tensor, tuple(target.shape)).copy()))
    logits, evaluated, loss, gradients = ours(program, weights, images, labels)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    network.eval()
    with torch.no_grad():
        np.testing.assert_allclose(evaluated, network(inputs).numpy(), rtol=1e-4, atol=1e-4)
    network.train()
    expected = network(inputs)
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-4, atol=1e-4)
    expected_loss = torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels).long())
    assert loss == pytest.approx(expected_loss.item(), rel=1e-5)
    expected_loss.backward()
    of_pytorch = {name: p.grad.numpy() for name, p in network.named_parameters() if p.requires_grad}
    assert sorted(of_pytorch) == sorted(names[name] for name in gradients)
    for name, gradient in gradients.items():
        reference = of_pytorch[names[name]]
        found = to_pytorch(name, gradient, reference.shape)
        np.testing.assert_allclose(found, reference, rtol=1e-3, atol=1e-4 * np.abs(reference).max(), err_msg=name)
