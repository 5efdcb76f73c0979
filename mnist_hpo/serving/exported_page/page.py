"""Put a model into the service's page: one HTML file, which loads nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from mnist_hpo import preprocessing, serving

_SERVED = Path(str(serving.__file__)).parent / "assets"
_OWN = Path(__file__).parent / "assets"
_PREPROCESSING = Path(str(preprocessing.__file__)).parent / "assets" / "preprocessing.js"

_SERVICE, _LOCAL_SERVICE, _INSTALL = "service.js", "local_service.js", "install.js"
_OF_WORKER = (_PREPROCESSING, _OWN / "network.js", _OWN / "recogniser.js", _OWN / "worker.js")

_ONLY_SERVED = re.compile(r"<!-- service -->.*?<!-- file:\s*(.*?)\s*-->", re.DOTALL)
"""What only the service's page has, and what takes its place in a file."""
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_SCRIPT = re.compile(r'<script src="/([\w.]+)" defer></script>\n')
_ADDRESS = re.compile(r"""(?:src|href)=["'](?!data:)|url\(""")
_ICON_SIDE = 512


def exported_page(model: Mapping[str, Any]) -> bytes:
    """Return the page, UTF-8, with a model that `describe_model` returned."""
    index = _COMMENT.sub("", _ONLY_SERVED.sub(r"\1", (_SERVED / "index.html").read_text("utf-8")))
    scripts = [_content(_script(name)) for name in [*_SCRIPT.findall(index), _INSTALL]]
    style = _content(_SERVED / "page.css")
    icon = _data_url("image/svg+xml", (_SERVED / "favicon.svg").read_bytes())
    head = f"""\
<meta name="generator" content="mnist-hpo">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts, style)}">
<meta name="theme-color" content="#f3f5f8" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#12151a" media="(prefers-color-scheme: dark)">
<meta name="mobile-web-app-capable" content="yes">
"""
    changes = {
        '<link rel="icon" href="/favicon.svg" type="image/svg+xml">\n': (
            f'<link rel="icon" href="{icon}" type="image/svg+xml">\n'
            f'<link rel="apple-touch-icon" href="{_data_url("image/png", _large_icon())}">\n'
        ),
        '<link rel="stylesheet" href="/page.css">\n': f"<style>{style}</style>\n",
        '<meta charset="utf-8">\n': f'<meta charset="utf-8">\n{head}',
        "</body>": "\n".join(
            [
                _block("stored-model", "application/json", _json(model)),
                _block("worker-script", "text/plain", "\n".join(map(_content, _OF_WORKER))),
                *(f"<script>{script}</script>" for script in scripts),
                "</body>",
            ]
        ),
    }
    page = _SCRIPT.sub("", index)
    _check_addresses(page, changes)
    for old, new in changes.items():
        page = page.replace(old, new)
    return page.encode()


def _check_addresses(page: str, changes: Mapping[str, str]) -> None:
    """Check that each place that is changed occurs once, and that no address is left in the rest."""
    for old in changes:
        if page.count(old) != 1:
            raise ValueError(f"index.html has {page.count(old)} times {old!r}")
        page = page.replace(old, "")
    if found := _ADDRESS.search(page):
        raise ValueError(f"index.html has an address that a file cannot load, at {page[found.start() :][:60]!r}")


def _script(name: str) -> Path:
    if name == _SERVICE:
        return _OWN / _LOCAL_SERVICE
    return (_OWN if name == _INSTALL else _SERVED) / name


def _content(file: Path) -> str:
    """Return the text of a script or a style that stands within HTML."""
    text = file.read_text("utf-8")
    if "</script" in text or "</style" in text or "<!--" in text:
        raise ValueError(f"{file}: contains text that would end its element in an HTML page")
    return text


def _block(name: str, media_type: str, text: str) -> str:
    """Return an element with data for the scripts, which browsers do not run."""
    return f'<script type="{media_type}" id="{name}">{text}</script>'


def _json(value: Any) -> str:
    """Return JSON in which no text ends the HTML element around it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _policy(scripts: list[str], style: str) -> str:
    """Return the Content-Security-Policy: the scripts and the style of the page, and no network."""
    hashes = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; worker-src blob:; img-src data: blob:; "
        "manifest-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _large_icon() -> bytes:
    """Return the icon as a PNG, for systems that show no SVG: the digit of favicon.svg, whose side is 32."""
    scale = _ICON_SIDE / 32
    image = Image.new("RGB", (_ICON_SIDE, _ICON_SIDE), "#0b5cc4")
    draw = ImageDraw.Draw(image)
    points = [(x * scale, y * scale) for x, y in ((9, 9), (23, 9), (15, 24))]
    draw.line(points, "#fff", round(4 * scale), joint="curve")
    for x, y in points:
        draw.circle((x, y), 2 * scale, "#fff")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
