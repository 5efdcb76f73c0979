"""`mnist-hpo predict`: read the digits in pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_hpo.api.studies import is_file
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    JsonOption,
    StorageOption,
    console,
    print_json,
)
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnist_hpo.bundle.bundle import Bundle
    from mnist_hpo.preprocessing.find import Digit

_SHADES = " ░▒▓█"


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures: PNG, JPEG, BMP or WebP.")],
    model: Annotated[
        str, typer.Option(metavar="STUDY | DIR", help="A study's name or file, or a model's folder (with a slash).")
    ] = "quickstart",
    line: Annotated[bool, typer.Option("--line", help="Each picture shows several digits in a line.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the 28 × 28 pixels that the network saw.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> None:
    """Read the digit in each picture, drawn or photographed, dark on light or light on dark.

    The ink is found, cropped, scaled to 20 × 20 pixels and centred, as MNIST's digits were. An answer is marked
    doubtful if the picture may not show a digit, or if the model is not sure of it. Lines are read from left to right.

    Example: mnist-hpo predict photo.jpg --line --show
    """
    found = [(path, digit) for path in images for digit in _digits(path, line=line)]
    # Set before JAX starts, so that the answers are computed as the tested ones were.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    import numpy as np

    from mnist_hpo.cli.schemas.predict import PredictOutput

    bundle = _bundle(model, storage)
    if bundle.model.image_shape != (28, 28, 1):
        raise UserError(f"the model {model} takes images of {bundle.model.image_shape}, not of 28 × 28 grey pixels")
    answers = bundle.answer(np.stack([digit.pixels for _, digit in found]).reshape(len(found), -1))
    output = PredictOutput.of(bundle, found, answers)
    if as_json:
        print_json(output)
        return
    out = console()
    for prediction, (path, digit) in zip(output.predictions, found, strict=True):
        probability = prediction.probabilities[prediction.digit]
        doubt = "  doubtful" if prediction.doubtful else ""
        out.print(f"{path}: {prediction.digit}  ({100 * probability:.1f} %){doubt}", soft_wrap=True)
        if show:
            out.print(_drawn(digit.pixels))


def _digits(path: Path, *, line: bool) -> list[Digit]:
    from mnist_hpo.preprocessing.decode import decode
    from mnist_hpo.preprocessing.errors import ImageError
    from mnist_hpo.preprocessing.find import BLANK, find_digits

    try:
        return find_digits(decode(path.read_bytes()), line=line)
    except ImageError as error:
        if error.code == "no_ink":
            return [BLANK]
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _bundle(model: str, storage: str) -> Bundle:
    """Load a model with its detector."""
    from mnist_hpo.bundle.bundle import load_bundle

    if is_file(model) and Path(model).suffix not in (".yaml", ".yml"):
        return load_bundle(Path(model))
    from mnist_hpo.api.detector import bundle_with_doubt
    from mnist_hpo.home import Home

    log = console(to_stderr=True)
    home = Home(storage, DEFAULT_TRACKING, FOLDER)
    return bundle_with_doubt(model, home, lambda message: log.print(message, soft_wrap=True))


def _drawn(pixels: NDArray[np.uint8]) -> str:
    """Return a picture of text, two characters a pixel."""
    rows = [[_SHADES[int(value) * len(_SHADES) // 256] * 2 for value in row] for row in pixels.tolist()]
    return "\n".join("".join(row).rstrip() for row in rows)
