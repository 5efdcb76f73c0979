"""The transformer in PyTorch, with `scaled_dot_product_attention`.

`nn.TransformerEncoderLayer` also drops weights of the attention and hidden units, so it is not the same network.
"""

from __future__ import annotations

import math
from typing import Any

from mnist_hpo.spec.parameter import ParameterSet


def build(torch: Any, hyperparameters: ParameterSet) -> Any:
    """Return the network."""
    nn, functional = torch.nn, torch.nn.functional
    width, size = int(hyperparameters["width"]), int(hyperparameters["patch_size"])
    stride = max(1, size - int(hyperparameters["overlap"]))
    with_token = hyperparameters["readout"] == "token"
    n_patches = 1 + max(0, math.ceil((28 - size) / stride))
    missing = max(0, (n_patches - 1) * stride + size - 28)
    rate = float(hyperparameters["dropout"])

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Conv2d(1, width, size, stride=stride)
            self.positions = nn.Parameter(torch.zeros(n_patches**2 + with_token, width))
            self.dropout = nn.Dropout(rate)
            self.blocks = nn.ModuleList([_block(torch, hyperparameters) for _ in range(int(hyperparameters["depth"]))])
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.logits = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            if missing > 0:
                x = functional.pad(x, (0, missing, 0, missing))
            x = self.embedding(x).flatten(2).transpose(1, 2)
            if with_token:
                x = functional.pad(x, (0, 0, 1, 0))
            x = self.dropout(x + self.positions)
            for block in self.blocks:
                x = block(x)
            x = self.norm(x)
            return self.logits(x[:, 0] if with_token else x.mean(dim=1))

    return Transformer()


def _block(torch: Any, hyperparameters: ParameterSet) -> Any:
    nn, functional = torch.nn, torch.nn.functional
    width, n_heads = int(hyperparameters["width"]), int(hyperparameters["n_heads"])
    n_hidden = max(1, round(float(hyperparameters["mlp_ratio"]) * width))
    size = max(1, width // n_heads)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(width, 3 * n_heads * size)
            self.output = nn.Linear(n_heads * size, width)

        def forward(self, x: Any) -> Any:
            projected = self.projection(x).unflatten(2, (3, n_heads, size)).permute(2, 0, 3, 1, 4)
            # Our scores are half those of Vaswani et al.
            attended = functional.scaled_dot_product_attention(*projected.unbind(0), scale=0.5 / math.sqrt(size))
            return self.output(attended.transpose(1, 2).flatten(2))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.LayerNorm(width, eps=1e-6) for _ in range(2)])
            self.attention = Attention()
            self.hidden, self.output = nn.Linear(width, n_hidden), nn.Linear(n_hidden, width)
            self.dropout = nn.Dropout(float(hyperparameters["dropout"]))

        def forward(self, x: Any) -> Any:
            x = x + self.dropout(self.attention(self.norms[0](x)))
            hidden = functional.gelu(self.hidden(self.norms[1](x)), approximate="tanh")
            return x + self.dropout(self.output(hidden))

    return Block()
