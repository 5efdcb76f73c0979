"""The command-line program: its commands, error messages and exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import tempfile
import traceback
import warnings
from typing import Annotated

import typer

from mnist_hpo.cli import (
    augment,
    bench,
    bundle,
    compare,
    data,
    ensemble,
    export,
    paper,
    predict,
    report,
    retrain,
    run,
    serve,
    show,
    sync,
    trials,
    ui,
)
from mnist_hpo.cli.help import Command, Group
from mnist_hpo.cli.streams import close_streams, prepare_streams
from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.tracking.environment import set_mlflow_defaults

_HELP = """Search hyperparameters of MNIST classifiers, the same way every time.

The study file decides what is computed; the machine only decides how fast. By default all state is in ./mlruns.

Example: mnist-hpo run studies/quickstart.yaml && mnist-hpo retrain quickstart && mnist-hpo ui
"""

_LONG_WORD = re.compile(r"[^\s]{500,}")
"""A word that is longer than any valid name or path."""

app = typer.Typer(
    cls=Group,
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"mnist-hpo {version('mnist-hpo')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Accept the options before a command. Their callbacks do the work."""


app.command("data", cls=Command)(data.data)
app.command("run", cls=Command)(run.run)
app.command("status", cls=Command)(show.status)
app.command("trials", cls=Command)(trials.trials)
app.command("best", cls=Command)(show.best)
app.command("compare", cls=Command)(compare.compare)
app.command("retrain", cls=Command)(retrain.retrain)
app.command("ensemble", cls=Command)(ensemble.ensemble)
app.command("paper", cls=Command)(paper.paper)
app.command("report", cls=Command)(report.report)
app.command("augment", cls=Command)(augment.augment)
app.command("sync", cls=Command)(sync.sync)
app.command("export", cls=Command)(export.export)
app.add_typer(bundle.app, name="bundle")
app.command("predict", cls=Command)(predict.predict)
app.command("serve", cls=Command)(serve.serve)
app.command("ui", cls=Command)(ui.ui)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run a command and exit.

    The exit codes are 0, 1 (the result is not as expected), 2 (bad input), 3 (the results are complete, but not all of
    them are in MLflow), 70 (an error in this program), 130 (interrupted) and 143 (terminated).
    """
    set_mlflow_defaults()
    code = _run()
    close_streams()
    sys.exit(code)


def _run() -> int:
    _ignore_warnings()
    try:
        prepare_streams()
        code = app(standalone_mode=False)
        # Flush here, where an error can still be handled.
        sys.stdout.flush()
        return code or 0
    except UserError as error:
        _print_error(str(error))
        return 2
    except typer.TyperException as error:
        _print_misuse(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _print_last("interrupted")
        return 130
    except BrokenPipeError:
        return 1  # The reader of our output has closed the pipe (`| head`). Typer returns 1 too.
    except Exception as error:
        _print_error(_internal_error(error))
        return 70


def _ignore_warnings() -> None:
    """Ignore warnings from libraries, which would stop a command under PYTHONWARNINGS=error."""
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # For the process that writes MLflow.


def _print_misuse(error: typer.TyperException) -> None:
    """Print what is wrong with the command line. A command without arguments has already printed its help."""
    message = error.format_message()
    if message:
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context else ""
        _print_error(f"{message}{hint}")


def _print_error(message: str) -> None:
    _print_last(f"error: {_LONG_WORD.sub(_shorten, message)}")


def _print_last(message: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(message, file=sys.stderr)


def _shorten(word: re.Match[str]) -> str:
    return f"{word[0][:60]}…{word[0][-20:]}"


def _internal_error(error: Exception) -> str:
    """Write the traceback of an unexpected error to a file, and return a message that names the file."""
    details = "".join(traceback.format_exception(error))
    message = f"internal error, please report it: {type(error).__name__}: {first_line(error)}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="mnist-hpo-", suffix=".txt", delete=False
        ) as file:
            file.write(f"{shlex.join(sys.argv)}\n\n{details}")
    except OSError:
        return f"{message}\n{details}"
    return f"{message} (details in {file.name})"
