"""The OpenAPI document. The route that is a plain ASGI app is described here."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mnist_hpo.serving.errors import STATUSES
from mnist_hpo.serving.predict import EXTRAS
from mnist_hpo.serving.schemas import ErrorResponse, PredictRequest, PredictResponse, UploadRequest

_REF = "#/components/schemas/{model}"


def openapi_document(app: FastAPI, *, has_token: bool) -> dict[str, Any]:
    """Return the document of all routes."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    models: list[type[BaseModel]] = [PredictRequest, UploadRequest, PredictResponse, ErrorResponse]
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    components = document.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **schemas["$defs"]}
    document["paths"] = {"/v1/predict": {"post": _predict()}, **document["paths"]}
    for path, item in document["paths"].items():
        for operation in item.values():
            operation["responses"] = {**operation["responses"], **error_responses(path)}
            if has_token and (path.startswith("/v1/") or path == "/metrics"):
                operation["security"] = [{"token": []}]
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def error_responses(path: str) -> dict[str, Any]:
    """Return the errors of a path by status, with their codes."""
    codes = [code for code in STATUSES if path == "/v1/predict" or code in _EVERYWHERE]
    by_status: dict[str, list[str]] = {}
    for code in codes:
        by_status.setdefault(str(STATUSES[code]), []).append(code)
    content = {"application/json": {"schema": _ref(ErrorResponse)}}
    return {status: {"description": ", ".join(found), "content": content} for status, found in by_status.items()}


_EVERYWHERE = (
    *("invalid_request", "unauthorized", "cross_origin", "not_found", "method_not_allowed", "request_timeout"),
    *("unknown_host", "head_too_large", "internal_error", "not_ready", "overloaded", "too_many_connections"),
)


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _predict() -> dict[str, Any]:
    include = {
        "name": "include",
        "in": "query",
        "description": "What to answer beside the predictions.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "items": {"enum": list(EXTRAS)}},
    }
    return {
        "summary": "Recognise digits",
        "operationId": "predict",
        "parameters": [include],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref(PredictRequest)},
                "multipart/form-data": {"schema": _ref(UploadRequest)},
            },
        },
        "responses": {
            "200": {
                "description": "A prediction for each image.",
                "content": {"application/json": {"schema": _ref(PredictResponse)}},
            }
        },
    }
