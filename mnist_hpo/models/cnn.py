"""Convolutional networks: `lenet`, close to LeNet-5, and `vgg`, a small network with batch normalisation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from mnist_hpo.spec.model import FlaxModel, Tensors
from mnist_hpo.spec.operations import Operation, activation, batch_norm, convolve, dense
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout

_CONVOLUTIONS = 100
"""The number of the first convolution, as a layer that noise is added to; dense layers are counted from 0."""


@cache
def module() -> Callable[..., nnx.Module]:
    """Return a function that builds a network. It imports Flax here, because the coordinator loads this file too."""
    import jax.numpy as jnp
    from flax import nnx

    from mnist_hpo.layers.convolution import conv_general_dilated, suits_kernels
    from mnist_hpo.layers.convolution_stack import Moments, Plan, Stage, convolution_stack
    from mnist_hpo.layers.mixed_precision import dot_general
    from mnist_hpo.layers.pooling import average_pool, max_pool

    class LeNet(nnx.Module):
        """Close to LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998).

        Two convolutions with average pooling, then two dense layers. With 6 channels, it has the paper's sizes: 6 and
        16 channels, 120 and 84 units. Differences: every pair of channels is connected, the second convolution is
        padded too, and the activation and the loss are those of the training.
        """

        def __init__(
            self,
            input_shape: tuple[int, int, int],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            height, width, n_inputs = input_shape
            channels, size = int(hyperparameters["channels"]), int(hyperparameters["kernel_size"])
            more = 8 * channels // 3
            conv = partial(
                nnx.Conv, kernel_size=(size, size), conv_general_dilated=conv_general_dilated(precision), rngs=rngs
            )
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            self.activation = getattr(nnx, str(hyperparameters["activation"]))
            self.convolutions = nnx.List([conv(n_inputs, channels), conv(channels, more)])
            n_pooled = (height // 4) * (width // 4) * more
            self.hidden = nnx.List([linear(n_pooled, 20 * channels), linear(20 * channels, 14 * channels)])
            self.logits = linear(14 * channels, n_classes)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            for layer, convolution in enumerate(self.convolutions):
                x = average_pool(self.activation(dropout.noise(_CONVOLUTIONS + layer, convolution(x))))
            x = x.reshape(x.shape[0], -1)
            for layer, linear in enumerate(self.hidden):
                x = dropout(layer, self.activation(dropout.noise(layer, linear(x))))
            return self.logits(x)

    class VGG(nnx.Module):
        """Two pairs of convolutions with batch normalisation; global average pooling before the logits.

        Simonyan & Zisserman, "Very Deep Convolutional Networks" (2015); Ioffe & Szegedy, "Batch Normalization" (2015);
        the pooling of Lin et al., "Network In Network" (2014).
        """

        def __init__(
            self,
            input_shape: tuple[int, int, int],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            channels, size = int(hyperparameters["channels"]), int(hyperparameters["kernel_size"])
            conv = partial(
                nnx.Conv,
                kernel_size=(size, size),
                use_bias=False,  # The following normalisation has a bias.
                conv_general_dilated=conv_general_dilated(precision),
                rngs=rngs,
            )
            self.precision = precision
            sizes = [input_shape[-1], channels, channels, 2 * channels, 2 * channels]
            self.activation = getattr(nnx, str(hyperparameters["activation"]))
            self.convolutions = nnx.List([conv(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)])
            self.norms = nnx.List([nnx.BatchNorm(n_out, momentum=0.9, rngs=rngs) for n_out in sizes[1:]])
            self.logits = nnx.Linear(2 * channels, n_classes, dot_general=dot_general(precision), rngs=rngs)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            if self.activation is nnx.relu and not dropout.adds_noise and suits_kernels(x.shape):
                features = self._stack(x)
            else:
                features = self._layers(x, dropout)
            return self.logits(dropout(0, features))

        def _stack(self, x: jax.Array) -> jax.Array:
            """Compute the features as one stack, with the kernels for CPUs."""
            norms: list[Any] = list(self.norms)
            stages = [
                Stage(convolution.kernel[...], norm.scale[...], norm.bias[...])
                for convolution, norm in zip(self.convolutions, norms, strict=True)
            ]
            plan = Plan(("none", "max", "none", "mean"), self.precision, norms[0].epsilon)
            uses_running = bool(norms[0].use_running_average)
            running = [Moments(norm.mean[...], norm.var[...]) for norm in norms] if uses_running else None
            result: tuple[jax.Array, list[Moments]] = convolution_stack(plan, x, stages, running)
            features, moments = result
            if not uses_running:
                for norm, (mean, variance) in zip(norms, moments, strict=True):
                    norm.mean[...] = norm.momentum * norm.mean[...] + (1 - norm.momentum) * mean
                    norm.var[...] = norm.momentum * norm.var[...] + (1 - norm.momentum) * variance
            return features[:, 0, 0]

        def _layers(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            """Compute the features layer by layer."""
            for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
                x = self.activation(dropout.noise(_CONVOLUTIONS + layer, norm(convolution(x))))
                if layer == 1:
                    x = max_pool(x)
            return jnp.mean(x, axis=(1, 2))

    architectures: dict[str, Callable[..., nnx.Module]] = {"lenet": LeNet, "vgg": VGG}

    def build(
        input_shape: tuple[int, ...], n_classes: int, hyperparameters: ParameterSet, *rest: Any, **more: Any
    ) -> nnx.Module:
        return architectures[str(hyperparameters["architecture"])](
            input_shape, n_classes, hyperparameters, *rest, **more
        )

    return build


def operations(hyperparameters: ParameterSet, tensors: Tensors) -> list[Operation]:
    """Return the operations of a prediction."""
    activate = activation(str(hyperparameters["activation"]))
    found: list[Operation] = []
    if hyperparameters["architecture"] == "lenet":
        for layer in range(2):
            found += [convolve(tensors, f"convolutions.{layer}"), activate, Operation("average_pool")]
        for layer in range(2):
            found += [dense(tensors, f"hidden.{layer}"), activate]
    else:
        for layer in range(4):
            found += [
                convolve(tensors, f"convolutions.{layer}"),
                batch_norm(tensors, f"norms.{layer}"),
                activate,
                *([Operation("max_pool")] if layer == 1 else []),
            ]
        found.append(Operation("mean"))
    return [*found, dense(tensors, "logits")]


MODEL = FlaxModel(
    hyperparameters={
        "architecture": Choice("vgg", ("lenet", "vgg")),
        "channels": Number(int, default=8, low=1, high=512),
        "kernel_size": Number(int, default=3, low=1, high=11),
        "activation": Choice("relu", ("relu", "gelu", "silu", "tanh")),
    },
    module=module,
    images="shaped",
    operations=operations,
)
