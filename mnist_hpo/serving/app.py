"""The app of the service: its routes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mnist_hpo.serving.assets import FOLDER, Asset, load_assets
from mnist_hpo.serving.errors import ServiceError
from mnist_hpo.serving.guard import Guard
from mnist_hpo.serving.openapi import openapi_document
from mnist_hpo.serving.predict import Predict
from mnist_hpo.serving.schemas import Health, ModelResponse
from mnist_hpo.serving.service import Service

_DESCRIPTION = """Recognises handwritten digits.

Send a picture (`curl -F file=@digit.png http://127.0.0.1:8000/v1/predict`), or images of 28 × 28 pixels as JSON.
"""

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def create_app(
    service: Service,
    *,
    version: str = "1",
    token: str | None = None,
    hosts: frozenset[str] | None = None,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """Return the app of a service.

    Args:
        service: the state of the service.
        version: of the API, for its document.
        token: see `Guard`.
        hosts: see `Guard`.
        lifespan: what runs beside the requests.

    """
    app = FastAPI(
        title="mnist-hpo",
        version=version,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
        lifespan=lifespan,
    )
    app.router.routes.append(Route("/v1/predict", Predict(service), methods=["POST"], include_in_schema=False))
    _add_state(app, service)
    _add_document(app, has_token=token is not None)
    for path, asset in load_assets(FOLDER).items():
        app.router.routes.append(Route(path, _Asset(asset), methods=["GET"], include_in_schema=False))
    app.add_exception_handler(HTTPException, _refuse)
    routes = frozenset(route.path for route in app.routes if isinstance(route, Route))
    app.add_middleware(Guard, service=service, token=token, hosts=hosts, routes=routes)
    return app


def _add_state(app: FastAPI, service: Service) -> None:
    """Add the routes that tell the state of the service."""

    @app.get("/v1/model", summary="The model that answers", response_model=ModelResponse)
    async def model() -> Response:
        return _json(service.current.model.describe(service.limits.images))

    @app.get("/healthz", summary="Whether the service runs", response_model=Health)
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz", summary="Whether the model is ready to answer", response_model=Health)
    async def readyz() -> Response:
        if not service.is_ready:
            raise ServiceError("not_ready", "the model is being compiled, or the service ends")
        return _json({"status": "ready"})

    @app.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    del model, healthz, readyz, metrics  # FastAPI has them.


def _add_document(app: FastAPI, *, has_token: bool) -> None:
    document = _json(openapi_document(app, has_token=has_token))

    async def openapi(_: Request) -> Response:
        return document

    app.router.routes.append(Route("/openapi.json", openapi, methods=["GET"], include_in_schema=False))


class _Asset:
    """Answers with a file, or that the client has it already."""

    def __init__(self, asset: Asset) -> None:
        self._asset = asset

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asset, headers = self._asset, {"etag": self._asset.etag, "cache-control": "no-cache"}
        known = Request(scope).headers.get("if-none-match", "")
        if asset.etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            response = Response(status_code=304, headers=headers)
        else:
            response = Response(asset.content, headers=headers | {"content-type": asset.media_type})
        await response(scope, receive, send)


async def _refuse(_: Request, error: Exception) -> Response:
    """Answer to a path or a method that does not exist; the Guard answers to all other errors."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        raise ServiceError(
            "method_not_allowed", f"the path takes {allowed or 'other methods'}", [(b"allow", allowed.encode())]
        )
    raise ServiceError("not_found", "there is nothing at this path; see /docs")


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
