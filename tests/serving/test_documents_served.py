"""What the service says about itself, and the headers of its responses."""

import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from served import Served

from mnist_hpo.serving.assets import FOLDER, load_assets
from mnist_hpo.serving.errors import STATUSES

BLANK = [0] * 784
PATHS = ("/", "/docs", "/docs.js", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/model", "/nothing")


@pytest.mark.parametrize("path", PATHS)
def test_all_responses_have_strict_headers(service: Served, path: str) -> None:
    headers = service.get(path).headers
    policy = headers["Content-Security-Policy"]
    for directive in (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:"),
        *("connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"),
    ):
        assert directive in policy.split("; ")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in headers
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_the_model_is_described(service: Served) -> None:
    model = service.get("/v1/model").json()
    assert (model["study"], model["trial"], model["kind"]) == ("small", 7, "mlp")
    assert (model["image_shape"], model["classes"], model["max_images"]) == ([28, 28, 1], list(range(10)), 256)
    assert model["hyperparameters"]["width"] == 32
    assert model["provenance"]["dataset_digest"] == "0" * 64


def test_responses_are_those_of_the_openapi_document(service: Served, images: NDArray[np.uint8]) -> None:
    document = service.get("/openapi.json").json()

    def check(value: object, model: str) -> None:
        schema = {"$ref": f"#/components/schemas/{model}", "components": document["components"]}
        jsonschema.validate(value, schema)

    few = images[:2].tolist()
    check({"images": few}, "PredictRequest")
    check(service.predict(few).json(), "PredictResponse")
    check(service.predict(few, "?include=pixels,saliency").json(), "PredictResponse")
    check(service.predict([]).json(), "ErrorResponse")
    check(service.get("/v1/model").json(), "ModelResponse")
    check(service.get("/readyz").json(), "Health")
    with pytest.raises(jsonschema.ValidationError):
        check({"images": [[*BLANK[1:], 0.5]]}, "PredictRequest")


def test_the_document_names_all_paths_and_codes(service: Served) -> None:
    document = service.get("/openapi.json").json()
    assert list(document["paths"]) == ["/v1/predict", "/v1/model", "/healthz", "/readyz", "/metrics"]
    responses = document["paths"]["/v1/predict"]["post"]["responses"]
    described = {
        code: int(status)
        for status, response in responses.items()
        if status != "200"
        for code in response["description"].split(", ")
    }
    assert described == STATUSES
    assert document["components"]["schemas"]["Error"]["properties"]["code"]["enum"] == sorted(STATUSES)


def test_pages_load_nothing_from_elsewhere_and_have_no_inline_scripts() -> None:
    elsewhere = re.compile(r"""(src|href)=["']?(https?:)?//|url\(|@import|fetch\(["']https?:""")
    inline = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:")
    for path, asset in load_assets(FOLDER).items():
        if asset.media_type.startswith("text/"):
            assert not elsewhere.search(asset.content.decode()), path
        if asset.media_type.startswith("text/html"):
            assert not inline.search(asset.content.decode()), path


def test_files_are_sent_again_only_if_they_have_changed(service: Served) -> None:
    first = service.get("/docs.js")
    assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert first.content == (FOLDER / "docs.js").read_bytes()
    second = service.get("/docs.js", **{"If-None-Match": first.headers["ETag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert service.get("/docs.js", **{"If-None-Match": '"other"'}).status_code == 200


def test_a_file_of_an_unknown_type_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.js").write_text("")
    assert list(load_assets(tmp_path)) == ["/sub/a.js"]
    (tmp_path / "b.exe").write_text("")
    with pytest.raises(ValueError, match=r"b\.exe"):
        load_assets(tmp_path)


def value_of(metrics: str, name: str) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


def test_figures_count_requests_batches_and_the_model(service: Served) -> None:
    right = 'mnist_hpo_requests_total{route="/v1/predict",status="200"}'
    wrong = 'mnist_hpo_requests_total{route="other",status="404"}'
    service.predict([BLANK])
    service.get("/nothing")
    before = service.get("/metrics").text
    service.predict([BLANK] * 5)
    service.get("/nothing-else")
    after = service.get("/metrics").text
    assert value_of(after, right) == value_of(before, right) + 1
    assert value_of(after, wrong) == value_of(before, wrong) + 1
    assert value_of(after, "mnist_hpo_batch_images_sum") == value_of(before, "mnist_hpo_batch_images_sum") + 5
    seconds = 'mnist_hpo_request_seconds_count{route="/v1/predict"}'
    assert value_of(after, seconds) == value_of(before, seconds) + 1
    assert value_of(after, "mnist_hpo_queue_images") == 0
    assert 'mnist_hpo_model_info{kind="mlp",study="small",trial="7"} 1.0' in after
    assert "nothing" not in after


def test_each_request_is_a_line_of_the_log_without_its_images(service: Served) -> None:
    image = [0] * 780 + [231, 232, 233, 234]
    service.predict([image] * 3)
    service.get("/logged-after")
    while "/logged-after" not in service.err():
        pass  # The log is written by a thread.
    requests = [line for line in service.log() if line["event"] == "request"]
    logged = next(line for line in reversed(requests) if line["path"] == "/v1/predict")
    assert logged.keys() == {"time", "event", "client", "method", "path", "status", "ms", "images"}
    assert (logged["method"], logged["status"], logged["images"]) == ("POST", 200, 3)
    assert "231, 232" not in service.err()
