"""The page on which one draws a digit, in Chromium with a real service."""

import base64
import io
import json
from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from served import Served, start_program, write_model

pytestmark = pytest.mark.browser

Stroke = Sequence[tuple[float, float]]
SEVEN: Stroke = [(0.28, 0.2), (0.7, 0.2), (0.42, 0.82)]
DASH: Stroke = [(0.3, 0.5), (0.6, 0.5)]
COUNT_REQUESTS = """
const ask = window.fetch;
window.running = window.most = window.asked = 0;
window.fetch = async (...request) => {
  window.asked += 1;
  window.most = Math.max(window.most, ++window.running);
  try { return await ask(...request); } finally { window.running -= 1; }
};
"""
SEND_FILE = """([type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "seven.png", { type: "image/png" }));
  const made = { bubbles: true, cancelable: true };
  document.body.dispatchEvent(type === "drop"
    ? new DragEvent("drop", { ...made, dataTransfer: data })
    : new ClipboardEvent("paste", { ...made, clipboardData: data }));
}"""


# For each text: the text, its colour and that of the nearest background.
COLOURS_OF_TEXTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const clear = (colour) => numbers(colour)[3] === 0;
  return [...document.querySelectorAll("body *")]
    .filter((found) => found.checkVisibility() && [...found.childNodes].some((node) => node.nodeValue?.trim()))
    .map((found) => {
      let back = found;
      while (clear(getComputedStyle(back).backgroundColor)) back = back.parentElement;
      const colours = [getComputedStyle(found).color, getComputedStyle(back).backgroundColor];
      return [found.textContent, ...colours.map(numbers)];
    });
}"""


@pytest.fixture(scope="module")
def drawing_service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    served = start_program(write_model(tmp_path_factory.mktemp("drawing") / "model", 7))
    yield served
    assert served.stop() == 0


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, drawing_service: Served) -> Generator[OpenPage]:
    """Return a function that opens the page. At the end, nothing may have been written to the console."""
    contexts: list[BrowserContext] = []
    written: list[str] = []

    def open_(**options: Any) -> Page:
        contexts.append(chromium.new_context(**{"viewport": {"width": 1100, "height": 800}} | options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: written.append(message.text))
        page.on("pageerror", lambda error: written.append(str(error)))
        page.add_init_script(COUNT_REQUESTS)
        page.goto(drawing_service.url)
        return page

    yield open_
    for context in contexts:
        context.close()
    # The browser itself writes this of each refusal; some tests cause one.
    assert [text for text in written if not text.startswith("Failed to load resource: ")] == []


def points_on(page: Page, path: Stroke) -> list[tuple[float, float]]:
    """Return the places on the screen of points on the pad, whose sides have the length 1."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in path]


def draw(page: Page, path: Stroke, *, lift: bool = True) -> None:
    first, *others = points_on(page, path)
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=4)
    if lift:
        page.mouse.up()


def answer_on(page: Page) -> str:
    """Wait until the newest drawing is answered; return the digit."""
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    return page.locator("#digit").inner_text()


def bitmap_of(page: Page, canvas: str) -> bytes:
    """Return what a canvas shows, as a PNG."""
    url: str = page.locator(canvas).evaluate("canvas => canvas.toDataURL('image/png')")
    return base64.b64decode(url.partition(",")[2])


def drawing_on(page: Page) -> bytes:
    return bitmap_of(page, "#pad")


def seen_on(page: Page) -> list[list[int]]:
    """Return the image that the network sees, as the page shows it."""
    grey = np.asarray(Image.open(io.BytesIO(bitmap_of(page, "#seen"))).convert("L"))
    return grey.tolist()


def ink_on(page: Page) -> tuple[int, int, int, int] | None:
    """Return the box of what is drawn: left, top, right, bottom."""
    grey = Image.open(io.BytesIO(drawing_on(page))).convert("L")
    return grey.point(lambda value: 255 * (value < 128)).getbbox()


def prediction_of(served: Served, content: bytes) -> dict[str, Any]:
    (prediction,) = served.upload(content, "?include=pixels").json()["predictions"]
    return prediction


def colour_on(page: Page) -> Any:
    """Return the colour of a place on the pad that no stroke covers."""
    return Image.open(io.BytesIO(drawing_on(page))).convert("RGB").getpixel((20, 280))


def picture_of_a_seven() -> bytes:
    picture = Image.new("RGB", (300, 160), "navy")
    ImageDraw.Draw(picture).line([(120, 30), (180, 30), (140, 130)], "white", 12)
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def change_predictions(page: Page, **changes: Any) -> None:
    """Change what the service predicts, on its way to the page."""

    def change(route: Route) -> None:
        answer = route.fetch().json()
        answer["predictions"][0] |= changes
        route.fulfill(json=answer)

    page.route("**/v1/predict*", change)


def assert_shows(page: Page, prediction: dict[str, Any]) -> None:
    assert answer_on(page) == str(prediction["digit"])
    percents = [f"{100 * probability:.0f}%" for probability in prediction["probabilities"]]
    assert page.locator("#bars .value").all_inner_texts() == percents
    assert page.locator("#bars .best .label").inner_text() == str(prediction["digit"])
    bars = page.locator("#bars .track span")
    heights = bars.evaluate_all("bars => bars.map((bar) => parseFloat(bar.style.height))")
    assert heights == pytest.approx([100 * probability for probability in prediction["probabilities"]], abs=1e-3)
    assert seen_on(page) == prediction["pixels"]


def test_a_drawing_by_mouse_is_shown_as_the_service_recognises_it(open_page: OpenPage, drawing_service: Served) -> None:
    page = open_page()
    assert page.locator("#digit").inner_text() == ""
    draw(page, SEVEN)
    answer_on(page)
    prediction = prediction_of(drawing_service, drawing_on(page))
    assert_shows(page, prediction)
    assert sum(value > 0 for row in prediction["pixels"] for value in row) > 40
    expect(page.locator("#announcement")).to_contain_text(f"{prediction['digit']}, ")


def test_answers_come_while_one_draws_with_one_request_at_a_time(open_page: OpenPage) -> None:
    page = open_page()
    draw(page, SEVEN[:2], lift=False)
    assert answer_on(page) != ""
    first = seen_on(page)
    page.mouse.move(*points_on(page, SEVEN)[2], steps=10)
    answer_on(page)
    assert seen_on(page) != first
    asked, most = page.evaluate("[window.asked, window.most]")
    assert asked >= 2
    assert most == 1


def test_clear_empties_the_page_and_a_late_answer_does_not_fill_it(open_page: OpenPage) -> None:
    page = open_page()
    blank = drawing_on(page)
    held: list[Route] = []
    clear: list[Callable[[], None]] = [
        page.locator("#clear").click,
        lambda: page.keyboard.press("Escape"),
        lambda: page.keyboard.press("Delete"),
    ]
    for way in clear:
        draw(page, SEVEN)
        assert answer_on(page) != ""
        page.route("**/v1/predict*", lambda route: held.append(route))
        draw(page, DASH)
        expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
        way()
        assert answer_on(page) == ""
        assert drawing_on(page) == blank
        assert page.locator("#bars .value").all_inner_texts() == [""] * 10
        assert not np.any(seen_on(page))
        for route in held:
            route.abort()
        held.clear()
        page.unroute_all()


def test_undo_takes_the_last_stroke_away(open_page: OpenPage) -> None:
    page = open_page()
    draw(page, SEVEN)
    answer_on(page)
    drawn, seen = drawing_on(page), seen_on(page)
    draw(page, DASH)
    answer_on(page)
    assert seen_on(page) != seen
    page.keyboard.press("Control+z")
    answer_on(page)
    assert (drawing_on(page), seen_on(page)) == (drawn, seen)
    page.locator("#undo").click()
    assert answer_on(page) == ""


def test_a_picture_is_shown_and_recognised(open_page: OpenPage, drawing_service: Served) -> None:
    page, content = open_page(), picture_of_a_seven()
    prediction = prediction_of(drawing_service, content)
    left, top, right, _ = prediction["box"]
    # The pad has 560 pixels for the 300 of the picture, which lies in the middle of the pad's height.
    scale = 560 / 300
    box = {"x": left * scale, "y": top * scale + (560 - 160 * scale) / 2, "width": (right - left) * scale}
    for way in ("choose", "drop", "paste"):
        if way == "choose":
            page.locator("#file").set_input_files({"name": "seven.png", "mimeType": "image/png", "buffer": content})
        else:
            page.evaluate(SEND_FILE, [way, base64.b64encode(content).decode()])
        expect(page.locator("#box")).to_be_visible()
        assert_shows(page, prediction)
        shown = {name: float(page.locator("#box").get_attribute(name) or 0) for name in box}
        assert shown == pytest.approx(box)
        assert colour_on(page) == (0, 0, 128)
        draw(page, DASH)  # A drawing takes the picture's place.
        answer_on(page)
        expect(page.locator("#box")).to_be_hidden()
        assert colour_on(page) == (255, 255, 255)


def test_the_keyboard_draws(open_page: OpenPage, drawing_service: Served) -> None:
    page = open_page(viewport={"width": 1100, "height": 500})  # The arrow keys could scroll it.
    page.keyboard.press("Tab")
    expect(page.locator("#pad")).to_be_focused()
    expect(page.locator("#pen")).to_be_visible()
    scrolled = page.evaluate("scrollY")
    page.keyboard.press("ArrowRight")
    assert page.locator("#digit").inner_text() == ""  # The pen is up.
    page.keyboard.press("Space")
    expect(page.locator("#announcement")).not_to_be_empty()
    for _ in range(14):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    answer_on(page)
    assert_shows(page, prediction_of(drawing_service, drawing_on(page)))
    assert ink_on(page) == pytest.approx((300 - 17, 140 - 17, 300 + 17, 420 + 17), abs=1)
    assert page.evaluate("scrollY") == scrolled
    for control in ("clear", "undo", "file", "explain"):
        page.keyboard.press("Tab")
        expect(page.locator(f"#{control}")).to_be_focused()


def test_a_map_shows_on_demand_which_pixels_decided(open_page: OpenPage) -> None:
    page = open_page()
    opacities = "map => [...map.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 3)"
    page.locator("#explain").click()
    expect(page.get_by_role("status")).to_have_text("Draw a digit first.")
    draw(page, SEVEN)
    answer_on(page)
    expect(page.locator("#map")).to_be_hidden()
    page.locator("#explain").click()
    expect(page.locator("#map")).to_be_visible()
    assert max(page.locator("#map").evaluate(opacities)) == 230
    draw(page, DASH)
    expect(page.locator("#map")).to_be_hidden()
    answer_on(page)


def test_a_doubtful_answer_is_marked(open_page: OpenPage) -> None:
    page = open_page()
    change_predictions(page, doubtful=True)
    draw(page, SEVEN)
    assert answer_on(page) != ""
    expect(page.get_by_text("not sure", exact=True)).to_be_visible()
    expect(page.locator("#announcement")).to_contain_text("not sure")
    page.unroute_all()
    change_predictions(page, doubtful=False)
    draw(page, DASH)
    expect(page.locator("#doubt")).to_be_hidden()
    answer_on(page)
    page.unroute_all()


def test_a_refusal_is_shown_as_text_until_the_next_answer(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("status")).not_to_be_empty()
    assert answer_on(page) == ""
    draw(page, SEVEN)
    assert answer_on(page) != ""
    expect(page.get_by_role("status")).to_be_empty()
    page.route("**/v1/predict*", lambda route: route.abort())
    draw(page, DASH)
    expect(page.get_by_role("status")).to_contain_text("does not answer")
    assert answer_on(page) == ""
    page.unroute_all()
    page.locator("#undo").click()
    assert answer_on(page) != ""


def test_the_token_is_asked_for_and_then_sent_but_not_stored(open_page: OpenPage) -> None:
    page = open_page()

    def ask_for_token(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, body=json.dumps({"error": {"code": "unauthorized", "message": "send a token"}}))

    page.route("**/v1/predict*", ask_for_token)
    draw(page, SEVEN)
    for token in ("wrong", "right"):
        expect(page.locator("#secret")).to_be_visible()
        page.locator("#secret").fill(token)
        page.keyboard.press("Enter")
    expect(page.locator("#digit")).not_to_be_empty()
    expect(page.locator("#token")).to_be_hidden()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_a_finger_draws_on_a_phone_without_moving_the_page(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    box = page.locator("#pad").bounding_box()
    assert box is not None
    assert box["width"] > 0.9 * 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    touches = page.context.new_cdp_session(page)
    places = [
        (x0 + (x1 - x0) * part / 5, y0 + (y1 - y0) * part / 5)
        for (x0, y0), (x1, y1) in pairwise(points_on(page, [(0.5, 0.9), (0.5, 0.1)]))
        for part in range(6)
    ]
    for index, (x, y) in enumerate(places):
        kind = "touchMove" if index else "touchStart"
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert answer_on(page) != ""
    assert ink_on(page) == pytest.approx((280 - 17, 56 - 17, 280 + 17, 504 + 17), abs=2)
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast(open_page: OpenPage, scheme: str) -> None:
    """At least 4.5, as WCAG 2.2 requires of small text."""
    page = open_page(color_scheme=scheme)
    change_predictions(page, doubtful=True)
    draw(page, SEVEN)
    answer_on(page)
    page.locator("#explain").click()
    expect(page.locator("#legend")).to_be_visible()
    page.locator("#status").evaluate("status => status.textContent = 'A message.'")
    page.locator("#token").evaluate("form => form.hidden = false")
    page.unroute_all()
    contrasts = {text: contrast(*colours) for text, *colours in page.evaluate(COLOURS_OF_TEXTS)}
    assert len(contrasts) > 15
    assert {text: value for text, value in contrasts.items() if value < 4.5} == {}


def contrast(*colours: list[int]) -> float:
    """Return the contrast ratio of two colours, as WCAG 2.2 defines it."""
    channels = np.array(colours)[:, :3] / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    darker, lighter = sorted(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return float(lighter / darker)
