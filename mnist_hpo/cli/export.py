"""`mnist-hpo export`: write a study's model to a folder to hand on, or into an HTML page."""

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
    one_of,
    print_json,
)
from mnist_hpo.cli.output_file import HTML_PAGE, ForceOption, OutputFile
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.api.exporting import Exported
    from mnist_hpo.home import Home


def export(
    study: StudyArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The folder; an older model is replaced.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of a folder: one HTML page to draw on, which needs no network."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="The type of the weights in the file: fp32, bf16 or int8. By default fp32, in a page bf16.",
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Add model.onnx to the folder, compared with the original on all test images."),
    ] = False,
    force: ForceOption = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> None:
    """Write a study's model to a folder, or with --page into an HTML page that computes in the browser.

    The folder has weights, description and digests of all files. Loading it executes no code.

    The model is the champion's if the best trial has been re-trained, else that of the search. For datasets of digits,
    the folder also has the detector by which answers to pictures without a digit are marked as doubtful. It is trained
    once for a dataset, on the training digits, which takes a minute or two.

    The folder of a neural network also has model.stablehlo, its prediction as a program that JAX runs on CPUs and
    accelerators without this package. --onnx adds model.onnx for ONNX Runtime and other engines (extra `onnx`).

    --weights int8 makes the file four times smaller, bf16 twice; model.json then has size and test accuracy before and
    after.

    The page is the one of mnist-hpo serve, with the model and the detector inside, for models of the kinds mlp and cnn.
    It can be opened from a file, and loads nothing. With int8 weights its answers may differ slightly.

    Example: mnist-hpo export quickstart --out digits/ --weights int8 && mnist-hpo bundle verify digits/
    Example: mnist-hpo export quickstart --page digit.html
    """
    if (out is None) == (page is None):
        raise UserError("export writes a folder or a page: give either --out DIR or --page FILE")
    from mnist_hpo.executors.environment import worker_environment

    # Set before JAX starts, so that predictions have the bits of the tested ones.
    os.environ.update(worker_environment())
    from mnist_hpo.home import Home

    home = Home(storage, DEFAULT_TRACKING, FOLDER)
    if page is not None:
        for given, option in ((as_json, "--json"), (onnx, "--onnx")):
            if given:
                raise UserError(f"{option} is for folders; leave it out with --page")
        _export_page(study, OutputFile("--page", page, HTML_PAGE, force), weights or "bf16", home)
    elif out is not None:
        _export_folder(study, out, weights or "fp32", home, onnx=onnx, as_json=as_json)


def _export_folder(study: str, out: Path, weights: str, home: Home, *, onnx: bool, as_json: bool) -> None:
    from mnist_hpo.api.exporting import export_model
    from mnist_hpo.bundle.quantization import WEIGHT_TYPES
    from mnist_hpo.cli.schemas.bundle import BundleOutput

    weight_type, log = one_of("--weights", weights, WEIGHT_TYPES), console(to_stderr=True)
    with log.status("export: writing the model"):
        exported = export_model(
            study,
            out,
            home,
            weight_type=weight_type,
            onnx=onnx,
            log=lambda message: log.print(message, soft_wrap=True),
        )
    if as_json:
        print_json(BundleOutput.of(exported.folder, exported.description))
    else:
        _print(exported)


def _export_page(study: str, page: OutputFile, weights: str, home: Home) -> None:
    from mnist_hpo.api.exporting import PAGE_WEIGHT_TYPES, export_page

    weight_type, log = one_of("--weights", weights, PAGE_WEIGHT_TYPES), console(to_stderr=True)
    page.check()
    with log.status("export: writing the page"):
        content = export_page(
            study, home, weight_type=weight_type, log=lambda message: log.print(message, soft_wrap=True)
        )
    page.write(content)
    if not page.is_stream:
        size = f"{len(content) / 1e6:.2f} MB, {weight_type} weights"
        console().print(f"page: {page.path} ({size}); open it in a browser", soft_wrap=True)


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
