"""`mnist-hpo serve`: answer requests with a trained model over HTTP."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_hpo.api.studies import is_file
from mnist_hpo.cli.common import (
    DEFAULT_STORAGE,
    DEFAULT_TRACKING,
    FOLDER,
    StorageOption,
    TrackingOption,
    console,
    one_of,
)
from mnist_hpo.spec.errors import UserError

if TYPE_CHECKING:
    from mnist_hpo.serving.alias import Follow
    from mnist_hpo.serving.model import ModelSource
    from mnist_hpo.serving.service import Service

_TOKEN = "MNIST_HPO_SERVE_TOKEN"
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_MIN_TOKEN_CHARS = 16
_STANDARD_ERROR = 2


def serve(
    model: Annotated[
        str, typer.Argument(metavar="[STUDY | DIR]", help="A study's name or file, or a model's folder (with a slash).")
    ] = "quickstart",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = 8000,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name under which clients reach the service; may be repeated. By default those of "
            "this machine with 127.0.0.1, and any name with another address.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"A file with the bearer token of requests, instead of ${_TOKEN}."),
    ] = None,
    reload_alias: Annotated[
        bool, typer.Option("--reload-alias", help="Swap the model when the registry's champion changes.")
    ] = False,
    reload_every: Annotated[float, typer.Option(min=0.1, max=86400, help="Seconds between looks at the registry.")] = 5,
    max_wait: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that a request may wait for others to share a batch.")
    ] = 1,
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What computes the predictions: jax, or onnx (ONNX Runtime, with the extra `onnx`)."
        ),
    ] = "jax",
    storage: StorageOption = DEFAULT_STORAGE,
    tracking_uri: TrackingOption = DEFAULT_TRACKING,
) -> None:
    """Recognise digits over HTTP: a page to draw on, and POST /v1/predict. Ctrl-C or SIGTERM ends it.

    The model is the registry's champion of the study, else the model of its best trial. /docs describes the requests;
    /readyz tells when the model is compiled, and /metrics has figures for Prometheus. Each request is a line of JSON on
    standard error, without data of images.

    ONNX Runtime takes some seconds longer to start, and may then be faster, most of all with single images. The
    converted model is checked against the original.

    Example: mnist-hpo serve quickstart --port 8000
    """
    from mnist_hpo.bundle.portable import RUNTIMES

    chosen = one_of("--runtime", runtime, RUNTIMES)
    token = _token(token_file)
    listener = _listen(host, port)
    # Set before JAX starts, so that the answers are computed as the tested ones were.
    from mnist_hpo.executors.environment import worker_environment

    os.environ.update(worker_environment())
    from importlib.metadata import version

    from mnist_hpo.serving.server import Settings
    from mnist_hpo.serving.server import serve as run_server

    is_local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    if not is_local and token is None:
        console(to_stderr=True).print(
            f"warning: everyone who reaches {host} can use this service; set a token with {_TOKEN} or --token-file",
            soft_wrap=True,
        )
    source, follow = _source(model, storage, tracking_uri, reload_every if reload_alias else None)
    names = frozenset(name.lower() for name in allow_host or ())
    settings = Settings(
        source,
        max_wait_s=max_wait / 1000,
        runtime=chosen,
        token=token,
        hosts=names | _LOOPBACK_NAMES if is_local else names or None,
        follow=follow,
        version=version("mnist-hpo"),
    )

    def ready(service: Service) -> None:
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        console().print(f"serving {service.current.model.name}: http://{shown}:{address[1]}/", soft_wrap=True)
        sys.stdout.flush()

    run_server(listener, settings, _STANDARD_ERROR, ready)


def _token(file: Path | None) -> str | None:
    if file is None:
        place, token = _TOKEN, os.environ.get(_TOKEN)
        if token is None:
            return None
    else:
        place = str(file)
        try:
            token = file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise UserError(f"--token-file {file}: cannot be read: {error}") from None
    if len(token) < _MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"{place}: a token has at least {_MIN_TOKEN_CHARS} printable ASCII characters without spaces; "
            "openssl rand -hex 32 makes one"
        )
    return token


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: is no address of this machine: {error}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        raise UserError(f"port {port} on {host} is taken ({error.strerror}); choose one with --port") from None
    return listener


def _source(
    model: str, storage: str, tracking_uri: str, follow_every: float | None
) -> tuple[ModelSource, Follow | None]:
    """Return the first model, and how to follow the alias if it shall be followed."""
    from mnist_hpo.api.serving import served_model
    from mnist_hpo.serving.alias import Follow
    from mnist_hpo.serving.model import ModelSource

    if is_file(model) and Path(model).suffix not in (".yaml", ".yml"):
        if follow_every is not None:
            raise UserError("--reload-alias follows the champion of a study; a folder has none: pass a study's name")
        return ModelSource(Path(model)), None
    log = console(to_stderr=True)
    source, champion = served_model(
        model, storage, tracking_uri, FOLDER, lambda message: log.print(message, soft_wrap=True)
    )
    return source, None if follow_every is None else Follow(champion.version, champion.fetch, follow_every)
