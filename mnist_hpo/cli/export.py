"""`mnist-hpo export`: write a study's model to a folder to hand on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    JsonOption,
    StorageOption,
    StudyArgument,
    console,
    print_json,
)

if TYPE_CHECKING:
    from mnist_hpo.api.exporting import Exported


def export(
    study: StudyArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder; an older model is replaced.")],
    weights: Annotated[
        str,
        typer.Option(metavar="TYPE", help="The type of the weights in the file: fp32, bf16 or int8."),
    ] = "fp32",
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write model.onnx too, compared with the original on all test images."),
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> None:
    """Write a study's model to a folder: weights, description, digests of all files. Loading it executes no code.

    The model is the champion's if the best trial has been re-trained, else that of the search. For datasets of digits,
    the folder also has the detector by which answers to pictures without a digit are marked as doubtful. It is trained
    once for a dataset, on the training digits, which takes a minute or two.

    The folder of a neural network also has model.stablehlo, its prediction as a program that JAX runs on CPUs and
    accelerators without this package. --onnx adds model.onnx for ONNX Runtime and other engines (extra `onnx`).

    --weights int8 makes the file four times smaller, bf16 twice; model.json then has size and test accuracy before and
    after.

    Example: mnist-hpo export quickstart --out digits/ --weights int8 && mnist-hpo bundle verify digits/
    """
    from mnist_hpo.executors.environment import worker_environment

    # Set before JAX starts, so that predictions have the bits of the tested ones.
    os.environ.update(worker_environment())
    from mnist_hpo.api.exporting import export_model
    from mnist_hpo.bundle.quantization import WEIGHT_TYPES, WeightType
    from mnist_hpo.cli.schemas.bundle import BundleOutput
    from mnist_hpo.home import Home
    from mnist_hpo.spec.errors import UserError

    known: dict[str, WeightType] = {name: name for name in WEIGHT_TYPES}
    weight_type = known.get(weights)
    if weight_type is None:
        raise UserError(f"--weights {weights}: must be one of {', '.join(WEIGHT_TYPES)}")
    log = console(to_stderr=True)
    with log.status("export: writing the model"):
        exported = export_model(
            study,
            out,
            Home(storage, DEFAULT_TRACKING, FOLDER),
            weight_type=weight_type,
            onnx=onnx,
            log=lambda message: log.print(message, soft_wrap=True),
        )
    if as_json:
        print_json(BundleOutput.of(exported.folder, exported.description))
    else:
        _print(exported)


def _print(exported: Exported) -> None:
    from mnist_hpo.bundle.portable import ONNX_FILE, PROGRAMS

    out, found = console(), exported.description
    out.print(f"model:   {exported.folder} ({exported.n_bytes / 1e3:,.0f} kB)", soft_wrap=True)
    weights = found["weights"]
    if "before" in weights:
        before, after = weights["before"], weights["after"]
        out.print(
            f"weights: {weights['type']}, {after['n_bytes'] / 1e3:,.0f} kB instead of {before['n_bytes'] / 1e3:,.0f}; "
            f"test accuracy {100 * after['test_accuracy']:.2f} % instead of {100 * before['test_accuracy']:.2f} %",
            soft_wrap=True,
        )
    if ONNX_FILE in found.get(PROGRAMS, {}):
        checked = found[PROGRAMS][ONNX_FILE]["checked"]
        out.print(
            f"onnx:    the same digit on {checked['n_same_digit']:,} of {checked['n_images']:,} test images; "
            f"probabilities differ by at most {checked['max_probability_difference']:.4f}",
            soft_wrap=True,
        )
    if "test" not in found:
        out.print("test:    none, since the best trial has not been re-trained: mnist-hpo retrain STUDY")
    out.print(f"next:    mnist-hpo predict IMAGE --model {exported.folder}/", soft_wrap=True)
