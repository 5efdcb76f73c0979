"""A transformer over the patches of an image, with normalisation before each block.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021); the order of Xiong et al., "On Layer Normalization in the
Transformer Architecture" (2020).
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING

from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Choice, Number, ParameterSet

if TYPE_CHECKING:
    import jax
    from flax import nnx

    from mnist_hpo.layers.dropout import Dropout


@cache
def module() -> type[nnx.Module]:
    """Return the class. It imports Flax here, because the coordinator loads this file too."""
    import jax.numpy as jnp
    from flax import nnx
    from jax import lax

    from mnist_hpo.layers.attention import attention
    from mnist_hpo.layers.mixed_precision import dot_general

    class SelfAttention(nnx.Module):
        """Attention of each token to all tokens: f32[B, T, width] to the same shape."""

        def __init__(self, width: int, n_heads: int, precision: str, *, rngs: nnx.Rngs) -> None:
            self.n_heads, self.size, self.precision = n_heads, max(1, width // n_heads), precision
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            # One product for queries, keys and values.
            self.projection = linear(width, 3 * n_heads * self.size)
            self.output = linear(n_heads * self.size, width)

        def __call__(self, x: jax.Array) -> jax.Array:
            n_examples, n_tokens, _ = x.shape
            projected = self.projection(x).reshape(n_examples, n_tokens, 3, self.n_heads, self.size)
            query, key, value = projected.transpose(2, 0, 3, 1, 4)
            # Weights of variance 2 / width give queries and keys a variance of two. Halved, the scores have one of one,
            # as weights of variance 1 / width would; sharper attention at the start reached a higher error.
            attended = attention(query / 2, key, value, self.precision).transpose(0, 2, 1, 3)
            return self.output(attended.reshape(n_examples, n_tokens, -1))

    class Block(nnx.Module):
        """Self-attention and a network of one hidden layer, each added to its input: f32[B, T, width]."""

        def __init__(self, width: int, n_heads: int, n_hidden: int, precision: str, *, rngs: nnx.Rngs) -> None:
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
            self.attention = SelfAttention(width, n_heads, precision, rngs=rngs)
            self.hidden, self.output = linear(width, n_hidden), linear(n_hidden, width)

        def __call__(self, x: jax.Array, layer: int, dropout: Dropout) -> jax.Array:
            x = x + dropout(layer, self.attention(self.norms[0](x)))
            hidden = nnx.gelu(dropout.noise(layer, self.hidden(self.norms[1](x))))
            return x + dropout(layer + 1, self.output(hidden))

    class Transformer(nnx.Module):
        """Maps f32[batch, height, width, channels] to logits f32[batch, n_classes].

        Patches that share `overlap` rows or columns of pixels with the next one see the strokes between them (Yuan et
        al., "Tokens-to-Token ViT", 2021). If the patches do not cover the image exactly, it is extended by zeros below
        and on the right.
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
            height, n_columns, n_channels = input_shape
            width, self.patch_size = int(hyperparameters["width"]), int(hyperparameters["patch_size"])
            self.stride = max(1, self.patch_size - int(hyperparameters["overlap"]))
            self.with_token = hyperparameters["readout"] == "token"
            linear = partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
            n_patches = self._n_patches(height) * self._n_patches(n_columns)
            self.embedding = linear(self.patch_size**2 * n_channels, width)
            # A kernel for the one-hot number of a token, hence drawn like one: from zeros, training is slower. The row
            # of the class token is the token itself.
            n_tokens = n_patches + self.with_token
            self.positions = nnx.Param(jnp.zeros((n_tokens, width)), role="weight", fan_in=n_tokens)
            n_heads, n_hidden = int(hyperparameters["n_heads"]), round(float(hyperparameters["mlp_ratio"]) * width)
            self.blocks = nnx.List(
                [
                    Block(width, n_heads, max(1, n_hidden), precision, rngs=rngs)
                    for _ in range(int(hyperparameters["depth"]))
                ]
            )
            self.norm = nnx.LayerNorm(width, rngs=rngs)
            self.logits = linear(width, n_classes)

        def __call__(self, x: jax.Array, dropout: Dropout) -> jax.Array:
            x = self.embedding(self._patches(x))
            if self.with_token:
                x = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))
            x = dropout(0, x + self.positions[...][None])
            for number, block in enumerate(self.blocks):
                x = block(x, 2 * number + 1, dropout)
            x = self.norm(x)
            return self.logits(x[:, 0] if self.with_token else x.mean(axis=1))

        def _n_patches(self, n_pixels: int) -> int:
            """Return how many patches cover a row or column of pixels."""
            return 1 + max(0, math.ceil((n_pixels - self.patch_size) / self.stride))

        def _patches(self, x: jax.Array) -> jax.Array:
            """Cut f32[B, H, W, C] into f32[B, patches, pixels · C], row by row."""
            for axis in (1, 3):
                # From [B, H, W, C] to [B, patches, pixels, W, C] to [B, patches, pixels, patches, pixels, C].
                n_patches = self._n_patches(x.shape[axis])
                missing = max(0, (n_patches - 1) * self.stride + self.patch_size - x.shape[axis])
                x = jnp.pad(x, [(0, missing if each == axis else 0) for each in range(x.ndim)])
                cuts = [
                    lax.slice_in_dim(x, start, start + self.patch_size, axis=axis)
                    for start in range(0, n_patches * self.stride, self.stride)
                ]
                x = jnp.stack(cuts, axis=axis)
            n, n_rows, size, n_columns, _, n_channels = x.shape
            return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, n_rows * n_columns, size * size * n_channels)

    return Transformer


MODEL = FlaxModel(
    hyperparameters={
        "patch_size": Number(int, default=7, low=1, high=64),
        "overlap": Number(int, default=0, low=0, high=63),
        "width": Number(int, default=64, low=1, high=4096),
        "n_heads": Number(int, default=4, low=1, high=64),
        "depth": Number(int, default=3, low=1, high=32),
        "mlp_ratio": Number(float, default=2.0, low=0.1, high=16),
        "readout": Choice("mean", ("mean", "token")),
    },
    module=module,
    images="shaped",
)
