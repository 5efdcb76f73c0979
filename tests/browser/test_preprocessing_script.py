"""The preprocessing in JavaScript gives the same pixels and boxes as that in Python."""

import base64
import io
from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from mnist_hpo.preprocessing.decode import decode
from mnist_hpo.preprocessing.errors import ImageError
from mnist_hpo.preprocessing.find import find_digits

pytestmark = pytest.mark.browser

FIND = """([base64, width, height, line]) => {
  const rgba = Uint8ClampedArray.from(atob(base64), (char) => char.charCodeAt(0));
  const digits = MnistPreprocessing.findDigits(rgba, width, height, {line});
  return digits.map(({pixels, box}) => [Array.from(pixels), box]);
}"""
DECODE = """async (base64) => {
  const image = new Image();
  image.src = "data:image/png;base64," + base64;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return Array.from(MnistPreprocessing.greyOf(context.getImageData(0, 0, image.width, image.height).data));
}"""


@pytest.fixture
def script(page: Page) -> Page:
    """A page with the script, which forbids code from strings."""
    page.set_content("<meta http-equiv='Content-Security-Policy' content=\"script-src 'unsafe-inline'\">")
    source = files("mnist_hpo.preprocessing").joinpath("assets", "preprocessing.js").read_text(encoding="utf-8")
    page.add_script_tag(content=source)
    return page


def assert_same(script: Page, grey: NDArray[np.uint8], *, line: bool = False) -> None:
    height, width = grey.shape
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    found = script.evaluate(FIND, [base64.b64encode(rgba.tobytes()).decode(), width, height, line])
    try:
        expected = find_digits(grey, line=line)
    except ImageError:
        expected = []
    assert found == [[digit.pixels.reshape(-1).tolist(), list(digit.box)] for digit in expected]


def strokes(random: np.random.Generator, height: int, width: int, radius: float) -> NDArray[np.uint8]:
    """Return a random smooth stroke with soft edges, dark on light, as drawn on a canvas."""
    y, x = np.mgrid[:height, :width]
    points = random.uniform(0.1, 0.9, (4, 2)) * (height, width)
    at = np.linspace(0, 1, 60)[:, None]
    curve = sum(
        coefficient * at**power * (1 - at) ** (3 - power) * point
        for power, (coefficient, point) in enumerate(zip((1, 3, 3, 1), points, strict=True))
    )
    distance = np.min([np.hypot(y - row, x - column) for row, column in curve], axis=0)
    return np.rint(255 - 255 * np.clip(radius - distance + 0.5, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("radius", [0.5, 2, 8, 30])
@pytest.mark.parametrize("shape", [(280, 280), (470, 530), (90, 200)])
def test_drawings(script: Page, shape: tuple[int, int], radius: float) -> None:
    grey = strokes(np.random.default_rng(int(radius)), *shape, radius)
    assert_same(script, grey)
    assert_same(script, 255 - grey, line=True)


def test_photographs(script: Page) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        height, width = random.integers(200, 700, 2)
        grey = strokes(random, height, width, 6) * 0.6 + 70
        grey *= np.linspace(1, random.uniform(0.5, 1), width)
        grey[:, width // 3 :] *= random.uniform(0.6, 1)
        grey = np.clip(grey + random.normal(0, 5, grey.shape), 0, 255).astype(np.uint8)
        assert_same(script, grey, line=bool(seed % 2))


def test_lines(script: Page) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        digits = [strokes(random, 120, 100, 5) for _ in range(6)]
        assert_same(script, np.hstack(digits), line=True)
        assert_same(script, np.vstack([digits[0], digits[1]]), line=True)


def test_small_noise_and_empty_pictures(script: Page) -> None:
    random = np.random.default_rng(0)
    for index in range(60):
        shape = random.integers(1, 70, 2)
        density = (0.03, 0.3, 1)[index % 3]
        grey = np.where(random.random(shape) < density, random.integers(0, 256, shape), 255).astype(np.uint8)
        assert_same(script, grey, line=bool(index % 2))
    for level in (0, 128, 255):
        assert_same(script, np.full((20, 30), level, np.uint8))


def test_colours_and_transparency(script: Page) -> None:
    random = np.random.default_rng(0)
    for alpha in (255, 0):
        rgba = random.integers(0, 256, (40, 50, 4), np.uint8)
        rgba[..., 3] = 255
        rgba[:10, :, 3] = alpha
        file = io.BytesIO()
        Image.fromarray(rgba).save(file, "PNG")
        found = script.evaluate(DECODE, base64.b64encode(file.getvalue()).decode())
        assert found == decode(file.getvalue()).reshape(-1).tolist()
