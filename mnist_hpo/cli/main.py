"""The command line as a whole: its verbs, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mnist_hpo.cli import bench, compare, data, report, retrain, run, show, sync, trials, ui
from mnist_hpo.spec.errors import UserError
from mnist_hpo.tracking.environment import set_mlflow_defaults

_HELP = """Search hyperparameters of MNIST classifiers, the same way every time.

A study file says what is computed; the machine only how fast. All state lies in ./mlruns unless told otherwise.

Example: mnist-hpo run studies/quickstart.yaml && mnist-hpo retrain quickstart && mnist-hpo ui
"""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="markdown"
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
    """What stands before a verb; each option does its work by itself."""


app.command("data")(data.data)
app.command("run")(run.run)
app.command("status")(show.status)
app.command("trials")(trials.trials)
app.command("best")(show.best)
app.command("compare")(compare.compare)
app.command("retrain")(retrain.retrain)
app.command("report")(report.report)
app.command("sync")(sync.sync)
app.command("ui")(ui.ui)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run a verb and exit.

    The exit code is 0, 1 (a result that is not as it should be), 2 (bad input), 3 (the results are complete, but MLflow
    does not hold all of them), 130 (interrupted) or 143 (terminated).
    """
    set_mlflow_defaults()
    try:
        code = app(standalone_mode=False)
        # Here, where a pipe that was closed can still be handled.
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except typer.TyperException as error:
        _tell_misuse(error)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # Whoever read our output has closed it (`| head`); Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1  # As Typer does where it is the one to notice.
    sys.exit(code)


def _tell_misuse(error: typer.TyperException) -> None:
    """Say what is wrong with the command line; a verb without anything has printed its help already."""
    message = error.format_message()
    if message:
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context else ""
        print(f"error: {message}{hint}", file=sys.stderr)
