"""docs/hyperparameters.md lists every hyperparameter of every model, with the ranges and defaults of the code."""

import importlib.util
from typing import Any

import pytest
from command import ROOT

PAGE = (ROOT / "docs" / "hyperparameters.md").read_text()


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("written", ROOT / "scripts" / "write_hyperparameters.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script: Any) -> None:
    assert script.updated(PAGE) == PAGE, "run scripts/write_hyperparameters.py"


def test_ranges_and_defaults_are_those_of_the_code(script: Any) -> None:
    row = "| `width` | whole number | 1 to 8,192 | 128 | The number of units in the first hidden layer |  |"
    assert row in PAGE
    assert script.updated(PAGE.replace("| 1 to 8,192 | 128 |", "| 2 to 9 | 7 |")) == PAGE
    assert "| `learning_rate` | number | above 0 to 1e6 | 0.001 |" in PAGE
    assert "| `cell` | choice | `gru`, `lstm` | `gru` |" in PAGE


def test_missing_rows_and_rows_of_unknown_hyperparameters_are_refused(script: Any) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `mixup`"))
    with pytest.raises(ValueError, match="add rows for mixup in Every Flax model"):
        script.updated(PAGE.replace(row, ""))
    with pytest.raises(ValueError, match="has no hyperparameter mixdown"):
        script.updated(PAGE.replace("| `mixup`", "| `mixdown`"))
    with pytest.raises(ValueError, match="mixup: needs 6 cells and a text"):
        script.updated(PAGE.replace(row, "| `mixup` | | | | | Zhang et al. 2018 |"))
