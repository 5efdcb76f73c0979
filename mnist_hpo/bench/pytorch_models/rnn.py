"""The recurrent networks in PyTorch: `nn.GRU` or `nn.LSTM` over the rows of an image."""

from __future__ import annotations

from typing import Any

from mnist_hpo.spec.parameter import ParameterSet


def build(torch: Any, hyperparameters: ParameterSet) -> Any:
    """Return the network.

    PyTorch's layers add a second bias, to the product with the last output. Ours have none, so it is not trained. It
    is zero, and one at the forget gate of an LSTM.
    """
    nn = torch.nn
    cell, width = str(hyperparameters["cell"]), int(hyperparameters["width"])
    depth, rate = int(hyperparameters["depth"]), float(hyperparameters["dropout"])
    is_bidirectional = hyperparameters["direction"] == "both"

    class RNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
            # With one layer, there is nothing between layers to drop.
            between = rate if depth > 1 else 0.0
            self.layers = layer(28, width, num_layers=depth, dropout=between, bidirectional=is_bidirectional)
            self.dropout = nn.Dropout(rate)
            self.logits = nn.Linear((1 + is_bidirectional) * width, 10)
            for name, parameter in self.layers.named_parameters():
                if name.startswith("bias_hh"):
                    nn.init.zeros_(parameter.requires_grad_(False))
                    if cell == "lstm":
                        nn.init.ones_(parameter[width : 2 * width])

        def forward(self, x: Any) -> Any:
            # From [B, 1, rows, columns] to [rows, B, columns]: time first.
            outputs, _ = self.layers(x.squeeze(1).transpose(0, 1).contiguous())
            if hyperparameters["readout"] == "mean":
                return self.logits(self.dropout(outputs.mean(dim=0)))
            # The last output of the reverse direction is at the first row.
            last = torch.cat([outputs[-1, :, :width], outputs[0, :, width:]], dim=1)
            return self.logits(self.dropout(last))

    return RNN()
