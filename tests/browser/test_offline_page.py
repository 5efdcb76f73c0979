"""The exported page, from a file and without a network, gives the answers of the service."""

import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Folder
from drawn_shapes import DIGITS, OTHERS, Shape, draw_shape, perturbed
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import save
from served import Served, start_program
from test_drawing_page import answer_on, drawing_on, picture_of_a_seven, prediction_of, seen_on

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.reading import read_model
from mnist_hpo.bundle.replace import write_folder
from mnist_hpo.bundle.writing import DOUBT, DOUBT_FILE, Model, ModelDescription, folder_files
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.doubt.doubt import Detector, Doubt
from mnist_hpo.doubt.networks import NETWORKS
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory, make_predictor
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.serving.exported_page.description import describe_model
from mnist_hpo.serving.exported_page.page import exported_page
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.parameter import ParameterSet

pytestmark = pytest.mark.browser

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WATCH = """() => {
  const show = Answer.prototype.show;
  Answer.prototype.show = function (prediction) {
    window.shown = prediction;
    show.call(this, prediction);
  };
}"""


@dataclass(frozen=True)
class Exported:
    """A model as a page and in a service."""

    page: Path
    served: Served


@pytest.fixture(scope="module")
def exported(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Generator[Exported]:
    """A network trained for a second, and an untrained detector that calls about half of all digits doubtful."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    data = load_search(mnist.directory, "standard")
    digits = Examples(np.asarray(data.train_images[:5000]).reshape(-1, 28, 28, 1), np.asarray(data.train_labels[:5000]))
    parameters = {"depth": 1, "width": 32, "normalization": "batch"}
    learner = LearnerFactory().make(TrainingConfig("mlp", parameters, 0, 1), digits, n_classes=10)
    tensors = learner.model(learner.advance(learner.start(), 1).state)
    detector = Detector(tuple(untrained(model, values, digits) for model, values in NETWORKS))
    few = np.asarray(data.valid_images[:200])
    logs = make_predictor("mlp", parameters, (28, 28, 1), 10, tensors)(few.reshape(-1, 28, 28, 1))
    doubt = replace(Doubt.fit(detector, few, logs), threshold=len(NETWORKS) + 1.0)  # The sum at the medians.
    files = {DOUBT_FILE: save(dict(detector.tensors()))}
    description = ModelDescription("mlp", parameters, (28, 28, 1), 10)
    model = Model(description, tensors, {"study": "small"}, (), {DOUBT: doubt.fields()}, files)
    write_folder(folder, folder_files(model))
    page = folder.with_name("digit.html")
    page.write_bytes(exported_page(describe_model(read_model(folder), doubt, "bf16")))
    served = start_program(folder)
    yield Exported(page, served)
    assert served.stop() == 0


def untrained(model: str, parameters: ParameterSet, examples: Examples) -> Tensors:
    learner = LearnerFactory().make(TrainingConfig(model, parameters, 0, 1), examples, n_classes=2)
    return learner.model(learner.start())


@pytest.fixture
def offline_page(chromium: Browser, exported: Exported) -> Generator[Page]:
    """The page on a phone without a network. At the end, nothing may have been written to the console."""
    yield from opened(chromium, exported.page)


def opened(chromium: Browser, file: Path) -> Generator[Page]:
    context = chromium.new_context(**PHONE)
    context.set_offline(True)
    page, written = context.new_page(), list[str]()
    page.on("console", lambda message: written.append(message.text))
    page.on("pageerror", lambda error: written.append(str(error)))
    page.goto(file.as_uri())
    page.evaluate(WATCH)
    yield page
    context.close()
    assert written == []


def assert_answers_agree(page: Page, served: Served, shapes: Sequence[Shape]) -> list[bool]:
    """Draw each shape, and compare the page with the service; return which answers are doubtful."""
    doubtful: list[bool] = []
    for shape in shapes:
        page.locator("#clear").click()
        draw_shape(page, shape)
        shown_digit, expected = answer_on(page), prediction_of(served, drawing_on(page))
        found = page.evaluate("window.shown")
        assert shown_digit == str(expected["digit"])
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=0.01)
        assert (found["pixels"], found["box"]) == (expected["pixels"], expected["box"])
        assert page.locator("#doubt").is_visible() == found["doubtful"] == expected["doubtful"]
        doubtful.append(expected["doubtful"])
    return doubtful


def test_drawings_are_answered_as_by_the_service(offline_page: Page, exported: Exported) -> None:
    shapes = [perturbed(shape, seed) for seed, shape in enumerate([*DIGITS[:5], *OTHERS[:2]])]
    doubtful = assert_answers_agree(offline_page, exported.served, shapes)
    assert 0 < sum(doubtful) < len(doubtful)
    expect(offline_page.locator("#model")).to_have_text("small · mlp")


def test_pictures_and_their_deciding_pixels_are_shown_as_by_the_service(offline_page: Page, exported: Exported) -> None:
    content = picture_of_a_seven()
    (expected,) = exported.served.upload(content, "?include=pixels,saliency").json()["predictions"]
    offline_page.locator("#file").set_input_files({"name": "7.png", "mimeType": "image/png", "buffer": content})
    assert answer_on(offline_page) == str(expected["digit"])
    assert seen_on(offline_page) == expected["pixels"]
    offline_page.locator("#explain").click()
    expect(offline_page.locator("#map")).to_be_visible()
    np.testing.assert_allclose(offline_page.evaluate("window.shown.saliency"), expected["saliency"], atol=1e-4)


def test_a_file_that_is_no_picture_and_an_empty_picture_are_answered(offline_page: Page) -> None:
    choose = offline_page.locator("#file")
    choose.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(offline_page.get_by_role("status")).to_contain_text("cannot read this picture")
    assert answer_on(offline_page) == ""
    blank = io.BytesIO()
    Image.new("L", (90, 90), 255).save(blank, "PNG")
    choose.set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": blank.getvalue()})
    expect(offline_page.locator("#doubt")).to_be_visible()
    expect(offline_page.get_by_role("status")).to_be_empty()


def test_the_page_can_be_installed_where_it_is_served(chromium: Browser, exported: Exported, free_port: int) -> None:
    address = f"http://127.0.0.1:{free_port}/digit.html"
    context = chromium.new_context(**PHONE)
    context.route("**/*", lambda route: route.fulfill(body=exported.page.read_bytes(), content_type="text/html"))
    page = context.new_page()
    page.goto(address)
    session = context.new_cdp_session(page)
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [error["errorId"] for error in errors] == ["in-incognito"]  # As all contexts of Playwright are.
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["manifest"]["startUrl"] == address
    context.close()


@pytest.mark.slow
def test_a_study_is_exported_as_a_page_that_answers_100_drawings_as_the_service(
    chromium: Browser, finished: Folder, tmp_path: Path
) -> None:
    finished.call("export", "small", "--page", str(tmp_path / "digit.html"))
    finished.call("export", "small", "--out", str(tmp_path / "digits"))
    assert (tmp_path / "digit.html").stat().st_size < 2_000_000
    assert load_bundle(tmp_path / "digits").doubt is not None
    served = start_program(tmp_path / "digits")
    numbered = [(shape, 100 * number) for number, shape in enumerate([*DIGITS, *OTHERS])]
    for page in opened(chromium, tmp_path / "digit.html"):
        assert_answers_agree(page, served, [perturbed(shape, at + k) for shape, at in numbered for k in range(10)])
    assert served.stop() == 0
