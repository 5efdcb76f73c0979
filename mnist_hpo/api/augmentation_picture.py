"""The picture of training images as the training step changes them."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnist_hpo.api.augmentation import Block

_CELL_IN = 0.42
"""The width of a digit, in inches."""
_DPI = 150
_TITLE_CHARS_PER_CELL, _CAPTION_CHARS_PER_CELL = 5, 6
_LINE_IN, _MARGIN_IN = 0.17, 0.1
"""The height of a line of a caption, and the space around grids."""
_GAP_PX = 1
"""Between digits, in pixels of the digits."""


def augmentation_picture(blocks: Sequence[Block], title: str) -> bytes:
    """Draw a grid for each block, side by side: a row for each digit, the original first and then its changed copies.

    Returns:
        A PNG.

    """
    n_digits, n_copies, height, width, _ = blocks[0].copies.shape
    captions = [_caption(block, n_copies + 1) for block in blocks]
    n_lines = max(caption.count("\n") + 1 for caption in captions)
    title = textwrap.fill(title, _TITLE_CHARS_PER_CELL * len(blocks) * (n_copies + 1))
    n_title_lines = title.count("\n") + 1
    grid_in = np.array([(n_copies + 1) * _CELL_IN, n_digits * _CELL_IN * height / width])
    top_in = grid_in[1] + (n_lines + 0.5) * _LINE_IN + _MARGIN_IN
    size_in = np.array([len(blocks) * (grid_in[0] + _MARGIN_IN) + _MARGIN_IN, top_in + (n_title_lines + 1) * _LINE_IN])
    figure = Figure(figsize=tuple(size_in))
    figure.text(_MARGIN_IN / size_in[0], 1 - _MARGIN_IN / size_in[1], title, fontsize=10, weight="bold", va="top")
    for index, (block, caption) in enumerate(zip(blocks, captions, strict=True)):
        corner_in = np.array([_MARGIN_IN + index * (grid_in[0] + _MARGIN_IN), _MARGIN_IN])
        figure.text(corner_in[0] / size_in[0], top_in / size_in[1], caption, fontsize=9, va="top")
        axes = figure.add_axes((*(corner_in / size_in), *(grid_in / size_in)))
        axes.imshow(_grid(block), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        # The originals are to the left of this line.
        axes.axvline(width + (_GAP_PX - 1) / 2, color="tab:red", lw=1.5)
        axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _caption(block: Block, n_cells: int) -> str:
    # Lines break between hyperparameters, not between a name and its value.
    text = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in block.strengths.text.split(", "))
    return textwrap.fill(f"{block.strengths.title}: {text}", _CAPTION_CHARS_PER_CELL * n_cells)


def _grid(block: Block) -> NDArray[np.float32]:
    """Return all images of a block as one: [rows, columns], or [rows, columns, 3] in colours, from 0 to 1."""
    images = np.concatenate([block.originals[:, None], block.copies], axis=1)
    n_digits, n_cells, height, width, n_channels = images.shape
    bordered = np.full((n_digits, n_cells, height + _GAP_PX, width + _GAP_PX, n_channels), 0.15, np.float32)
    bordered[:, :, :height, :width] = np.clip(images, 0, 1)
    grid = bordered.swapaxes(1, 2).reshape(n_digits * (height + _GAP_PX), n_cells * (width + _GAP_PX), n_channels)
    # Matplotlib draws three channels as red, green and blue; of any other number, their mean is drawn.
    return grid if n_channels == 3 else grid.mean(axis=-1)
