"""A small vision transformer: an encoder over the patches of an image.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), with normalisation before each block and the mean of all
patches as the read-out.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout


@cache
def module() -> type[nnx.Module]:
    """Return the class. It imports Flax here, because the coordinator loads this file too, and Flax takes a second."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from mnist_hpo.layers.attention import attention
    from mnist_hpo.layers.mixed_precision import dot_general
    from mnist_hpo.layers.patches import to_patches

    class Block(nnx.Module):
        """Self-attention and an MLP, each added to what it is given. Maps f32[batch, N, width] to the same shape."""

        def __init__(self, width: int, n_heads: int, n_hidden: int, precision: str, *, rngs: nnx.Rngs) -> None:
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            self.n_heads = n_heads
            self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)])
            self.queries_keys_values = linear(width, 3 * width)
            self.mixed = linear(width, width)
            self.hidden, self.output = linear(width, n_hidden), linear(n_hidden, width)

        def __call__(self, x: jax.Array, dropout: Dropout, layer: int) -> jax.Array:
            attended = attention(self.queries_keys_values(self.norms[0](x)), self.n_heads)
            x = x + dropout(layer, self.mixed(attended))
            hidden = jax.nn.gelu(dropout.noise(layer, self.hidden(self.norms[1](x))))
            return x + dropout(layer + 1, self.output(hidden))

    class Transformer(nnx.Module):
        """Maps f32[batch, height, width, channels] to logits f32[batch, n_classes]."""

        def __init__(
            self,
            input_shape: tuple[int, int, int],
            n_classes: int,
            hyperparameters: ParameterSet,
            precision: str,
            *,
            rngs: nnx.Rngs,
        ) -> None:
            height, columns, channels = input_shape
            self.patch_size, n_heads = int(hyperparameters["patch_size"]), int(hyperparameters["n_heads"])
            # Rounded up to a multiple of the number of heads.
            width = -(-int(hyperparameters["width"]) // n_heads) * n_heads
            n_patches = -(-height // self.patch_size) * -(-columns // self.patch_size)
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            self.embedding = linear(self.patch_size**2 * channels, width)
            self.positions = nnx.Param(jnp.zeros((n_patches, width)), role="bias")
            n_hidden = width * int(hyperparameters["mlp_ratio"])
            self.blocks = nnx.List(
                [Block(width, n_heads, n_hidden, precision, rngs=rngs) for _ in range(int(hyperparameters["depth"]))]
            )
            self.norm = nnx.LayerNorm(width, rngs=rngs)
            self.logits = linear(width, n_classes)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            x = self.embedding(to_patches(x, self.patch_size)) + self.positions[...][None]
            for index, block in enumerate(self.blocks):
                x = block(x, dropout, 2 * index)
            return self.logits(self.norm(x).mean(axis=1))

    return Transformer


MODEL = FlaxModel(
    hyperparameters={
        "patch_size": Number(int, default=4, low=1, high=64),
        "width": Number(int, default=64, low=1, high=1024),
        "n_heads": Number(int, default=4, low=1, high=32),
        "depth": Number(int, default=4, low=1, high=24),
        "mlp_ratio": Number(int, default=2, low=1, high=8),
    },
    module=module,
    images="shaped",
)
