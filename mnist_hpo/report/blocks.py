"""What a section of the report is made of, in plain text: the page turns it into HTML."""

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
    """A part of a whole: its name, its share from 0 to 1, its colour, and what it is."""

    name: str
    share: float
    colour: str
    figure: str
    meaning: str


@dataclass(frozen=True)
class Parts:
    """A whole as one bar of its parts, with a line for each."""

    parts: Sequence[Part]


@dataclass(frozen=True)
class Points:
    """Sentences, one below the other."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """A few figures that are read first: label, figure, a word more."""

    figures: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Missing:
    """Why there is nothing to show, and the command that would change it."""

    reason: str
    command: str = ""


@dataclass(frozen=True)
class Source:
    """A text as it stands in a file, folded away."""

    title: str
    text: str


Block = Table | Parts | Points | Tiles | Missing | Source | Chart


@dataclass(frozen=True)
class Section:
    """A part of the report, in plain text: the page escapes all of it."""

    title: str
    lead: str
    """What is to be seen, and how it was got."""
    blocks: Sequence[Block]
