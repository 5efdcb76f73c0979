"""The service answers what the bundle answers, under the names that scripts rely on."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from served import Served

from mnist_hpo.bundle.bundle import Bundle, load_bundle
from mnist_hpo.preprocessing.decode import decode
from mnist_hpo.preprocessing.find import find_digits


@pytest.fixture(scope="module")
def bundle(model_folder: Path) -> Bundle:
    return load_bundle(model_folder)


def picture() -> bytes:
    """A drawn one."""
    drawn = Image.new("L", (200, 300), 255)
    ImageDraw.Draw(drawn).line([(110, 40), (90, 250)], fill=0, width=20)
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("n", [1, 3, 17, 256])
def test_answers_have_the_bits_of_the_bundle(
    service: Served, bundle: Bundle, images: NDArray[np.uint8], n: int
) -> None:
    answer = service.predict(images[:n].tolist()).json()
    assert answer.keys() == {"predictions", "model"}
    assert answer["model"] == {"study": "small", "trial": 7, "kind": "mlp"}
    expected = bundle.answer(images[:n])
    found = np.array([prediction["probabilities"] for prediction in answer["predictions"]], np.float32)
    assert found.tobytes() == expected.probabilities.tobytes()
    assert [prediction["digit"] for prediction in answer["predictions"]] == found.argmax(axis=1).tolist()
    assert [prediction["doubtful"] for prediction in answer["predictions"]] == expected.doubtful.tolist()
    assert all(prediction.keys() == {"digit", "probabilities", "doubtful"} for prediction in answer["predictions"])


def test_answers_are_those_of_a_bundle_that_computes_a_thousand_images_at_once(
    service: Served, images: NDArray[np.uint8], model_folder: Path
) -> None:
    """Only the last bits may differ."""
    found = [one["probabilities"] for one in service.predict(images[:17].tolist()).json()["predictions"]]
    expected = load_bundle(model_folder).answer(images[:17]).probabilities
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_an_answer_does_not_depend_on_other_requests(service: Served, images: NDArray[np.uint8]) -> None:
    alone = [service.predict(images[i : i + 1].tolist()).content for i in range(40)]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(lambda i: service.predict(images[i : i + 1].tolist()).content, range(40)))
    assert together == alone


def test_whole_floats_and_nested_rows_are_the_same_pixels(service: Served, images: NDArray[np.uint8]) -> None:
    expected = service.predict(images[:2].tolist()).content
    assert service.predict(images[:2].astype(float).tolist()).content == expected
    assert service.predict(images[:2].reshape(2, 28, 28).tolist()).content == expected


def test_a_picture_is_read_as_preprocessing_reads_it(service: Served, bundle: Bundle) -> None:
    (digit,) = find_digits(decode(picture()))
    (prediction,) = service.upload(picture(), "?include=pixels").json()["predictions"]
    assert prediction["pixels"] == digit.pixels.tolist()
    assert prediction["box"] == list(digit.box)
    expected = bundle.answer(digit.pixels.reshape(1, 784)).probabilities
    assert np.array([prediction["probabilities"]], np.float32).tobytes() == expected.tobytes()
    assert service.upload(picture()).json()["predictions"][0].keys() == {"digit", "probabilities", "doubtful"}


def test_the_digits_of_a_line_come_in_order(service: Served) -> None:
    line = Image.new("L", (400, 300), 255)
    for left in (100, 300):
        ImageDraw.Draw(line).line([(left, 40), (left, 250)], fill=0, width=20)
    out = io.BytesIO()
    line.save(out, "PNG")
    digits = find_digits(decode(out.getvalue()), line=True)
    assert len(digits) == 2
    found = service.upload(out.getvalue(), "?include=pixels", line="true").json()["predictions"]
    assert [prediction["box"] for prediction in found] == [list(digit.box) for digit in digits]


def test_saliency_is_the_mean_drop_over_the_patches_on_a_pixel(
    service: Served, bundle: Bundle, images: NDArray[np.uint8]
) -> None:
    (prediction,) = service.predict(images[:1].tolist(), "?include=saliency,pixels").json()["predictions"]
    image, digit = images[0].reshape(28, 28), prediction["digit"]
    assert prediction["pixels"] == image.tolist()
    drops, covers = np.zeros((28, 28)), np.zeros((28, 28))
    whole = prediction["probabilities"][digit]
    for y in range(0, 25, 2):
        for x in range(0, 25, 2):
            blanked = image.copy()
            blanked[y : y + 4, x : x + 4] = 0
            drops[y : y + 4, x : x + 4] += whole - bundle.answer(blanked.reshape(1, 784)).probabilities[0, digit]
            covers[y : y + 4, x : x + 4] += 1
    np.testing.assert_allclose(prediction["saliency"], drops / covers, atol=1e-6)
    assert np.abs(prediction["saliency"]).max() > 1e-3
