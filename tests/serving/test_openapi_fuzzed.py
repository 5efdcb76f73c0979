"""Requests that are generated from the OpenAPI document, valid and invalid, are answered as it says."""

import pytest
import schemathesis
from command import TIMEOUT_S
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from served import Served

# Without `positive_data_acceptance`: a schema cannot tell which bytes are a picture.
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
_OPERATIONS = (
    *(("POST", "/v1/predict"), ("GET", "/v1/model"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")),
)
_SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))


def cases_of(service: Served, method: str, path: str) -> st.SearchStrategy[schemathesis.Case]:
    operation = schemathesis.openapi.from_url(f"{service.url}/openapi.json")[path][method]
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if method == "POST" else [GenerationMode.POSITIVE]
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])


def check_generated_requests(service: Served, method: str, path: str, n: int) -> None:
    @settings(_SETTINGS, max_examples=n)
    @given(cases_of(service, method, path))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=_CHECKS, timeout=TIMEOUT_S)

    check()


def test_the_document_has_no_other_operations(service: Served) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, item in paths.items() for method in item]
    assert sorted(found) == sorted(_OPERATIONS)


@pytest.mark.parametrize(("method", "path"), _OPERATIONS)
def test_generated_requests_are_answered_as_documented(service: Served, method: str, path: str) -> None:
    check_generated_requests(service, method, path, 5 if method == "POST" else 1)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), _OPERATIONS)
def test_many_generated_requests_are_answered_as_documented(service: Served, method: str, path: str) -> None:
    check_generated_requests(service, method, path, 2_000 if method == "POST" else 50)
