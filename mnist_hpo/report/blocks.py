"""The building blocks of the report's sections, in plain text. The page converts them to HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_hpo.analysis.charts.figure import Chart


@dataclass(frozen=True)
class Table:
    """Rows of plain text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    highlighted: int | None = None
    """The row of the best trial."""
    caption: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a whole: its name, its share from 0 to 1, its colour, its value, and an explanation."""

    name: str
    share: float
    colour: str
    figure: str
    meaning: str


@dataclass(frozen=True)
class Parts:
    """A stacked bar of the parts of a whole, with a table row for each part."""

    parts: Sequence[Part]


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """A few prominent figures: label, figure, detail."""

    figures: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Missing:
    """The reason why there is nothing to show, and the command that would change it."""

    reason: str
    command: str = ""


@dataclass(frozen=True)
class Source:
    """The text of a file, collapsed by default."""

    title: str
    text: str


Block = Table | Parts | Points | Tiles | Missing | Source | Chart


@dataclass(frozen=True)
class Section:
    """A part of the report, in plain text: the page escapes all of it."""

    title: str
    lead: str
    """An introduction: what the section shows and how it was computed."""
    blocks: Sequence[Block]
