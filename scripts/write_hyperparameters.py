"""Update the types, ranges and defaults in docs/hyperparameters.md from the code.

The rows and their texts are written by hand: for a new hyperparameter, add the line
| `name` | | | | what it does | source |
to its table and run this.

Run:  .venv/bin/python scripts/write_hyperparameters.py

tests/learners/test_hyperparameters_page.py fails when the page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mnist_hpo.learners.catalog import MODELS, find_model
from mnist_hpo.learners.hyperparameters import parameters_of
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Choice, Parameter

PAGE = Path(__file__).resolve().parents[1] / "docs" / "hyperparameters.md"
_N_CELLS = 6


def tables() -> dict[str, Mapping[str, Parameter]]:
    """Return the hyperparameters of each section of the page, by heading."""
    found: dict[str, Mapping[str, Parameter]] = {}
    for name in MODELS.names:
        model = find_model(name)
        family = "Every Flax model" if isinstance(model, FlaxModel) else "Every scikit-learn model"
        found[f"`{name}`"] = model.hyperparameters
        found[family] = {key: value for key, value in parameters_of(name).items() if key not in model.hyperparameters}
    return found


def updated(page: str) -> str:
    """Return the page with the types, ranges and defaults of the code.

    Raises:
        ValueError: a hyperparameter has no row or no text, or a row's hyperparameter does not exist.

    """
    known, described = tables(), set[tuple[str, str]]()
    section, lines = "", list[str]()
    for line in page.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            name = cells[0].strip("`")
            if len(cells) != _N_CELLS or not cells[4]:
                raise ValueError(f"{section}, {name}: needs {_N_CELLS} cells and a text")
            if name not in known.get(section, {}):
                raise ValueError(f"{section}: has no hyperparameter {name}; remove its row")
            described.add((section, name))
            line = f"| {' | '.join([cells[0], *_columns(known[section][name]), *cells[4:]])} |"
        lines.append(line)
    missing = sorted({(section, name) for section, table in known.items() for name in table} - described)
    if missing:
        raise ValueError("add rows for " + ", ".join(f"{name} in {section}" for section, name in missing))
    return "\n".join(lines) + "\n"


def _columns(parameter: Parameter) -> tuple[str, str, str]:
    """Return the type, the range and the default."""
    if isinstance(parameter, Choice):
        return "choice", ", ".join(f"`{choice}`" for choice in parameter.choices), f"`{parameter.default}`"
    kind = "whole number" if parameter.kind is int else "number"
    low = f"above {_short(parameter.low)}" if parameter.low_open else _short(parameter.low)
    default = "–" if parameter.default is None else _short(parameter.default)
    return kind, f"{low} to {_short(parameter.high)}", default


def _short(number: float) -> str:
    return f"{number:g}".replace("e+0", "e") if number >= 1e6 else f"{number:,}".removesuffix(".0")


if __name__ == "__main__":
    try:
        PAGE.write_text(updated(PAGE.read_text()))
    except ValueError as error:
        sys.exit(f"{PAGE}: {error}")
