"""Digits as people draw them, and shapes that are none: strokes in a square whose sides have the length 1."""

import math
from collections.abc import Sequence

import numpy as np
from playwright.sync_api import Page

Stroke = Sequence[tuple[float, float]]
Shape = Sequence[Stroke]


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> list[tuple[float, float]]:
    """Return points on an ellipse with this centre and these radii, between angles in degrees from the right."""
    angles = np.radians(np.linspace(start, end, 14))
    return [(x + width * math.cos(angle), y + height * math.sin(angle)) for angle in angles]


DIGITS: Sequence[Shape] = [
    [arc(0.5, 0.5, 0.22, 0.34, -90, 270)],
    [[(0.38, 0.3), (0.52, 0.16), (0.52, 0.84)]],
    [[*arc(0.5, 0.34, 0.21, 0.18, -170, 50), (0.28, 0.82), (0.74, 0.82)]],
    [[*arc(0.47, 0.33, 0.2, 0.17, -150, 90), *arc(0.47, 0.67, 0.23, 0.18, -90, 150)]],
    [[(0.36, 0.16), (0.28, 0.56), (0.74, 0.56)], [(0.6, 0.2), (0.6, 0.86)]],
    [[(0.7, 0.18), (0.38, 0.18), (0.35, 0.46), *arc(0.47, 0.63, 0.22, 0.2, -90, 150)]],
    [[(0.62, 0.15), (0.4, 0.42), *arc(0.5, 0.66, 0.19, 0.18, 180, 530)]],
    [[(0.28, 0.2), (0.72, 0.2), (0.44, 0.84)]],
    [[*arc(0.5, 0.33, 0.16, 0.17, 90, 440), *arc(0.5, 0.67, 0.2, 0.18, -100, 260)]],
    [[*arc(0.5, 0.36, 0.18, 0.18, 0, 350), (0.67, 0.4), (0.6, 0.86)]],
]
OTHERS: Sequence[Shape] = [
    [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
    [[(0.5, 0.15), (0.85, 0.8), (0.15, 0.8), (0.5, 0.15)]],
    [[(0.15, 0.8), (0.3, 0.2), (0.5, 0.7), (0.7, 0.2), (0.85, 0.8)]],
    [[(0.3, 0.15), (0.3, 0.85)], [(0.3, 0.5), (0.7, 0.15)], [(0.3, 0.5), (0.7, 0.85)]],
    [arc(0.5, 0.5, 0.35, 0.35, -90, 270), [(0.35, 0.4), (0.36, 0.42)], [(0.62, 0.4), (0.63, 0.42)]],
]


def perturbed(shape: Shape, seed: int) -> Shape:
    """Return a shape that is scaled, slanted, turned and shifted at random, drawn with an unsteady hand."""
    rng = np.random.default_rng(seed)
    angle, slant = rng.uniform(-0.12, 0.12), rng.uniform(-0.2, 0.2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    change = turn @ np.array([[1, slant], [0, 1]]) @ np.diag(rng.uniform(0.75, 1.1, 2))
    shift = 0.5 + rng.uniform(-0.06, 0.06, 2)
    strokes = [np.array(stroke) + rng.normal(0, 0.006, (len(stroke), 2)) for stroke in shape]
    moved = [np.clip((points - 0.5) @ change.T + shift, 0.04, 0.96) for points in strokes]
    return [[(float(x), float(y)) for x, y in points] for points in moved]


def draw_shape(page: Page, shape: Shape) -> None:
    """Draw with the mouse on the pad of a page."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    for stroke in shape:
        (x, y), *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in others:
            page.mouse.move(x, y)
        page.mouse.up()
