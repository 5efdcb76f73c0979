"""docs/search_methods.md lists every method and every option with its default."""

import inspect
import json
from pathlib import Path

import pytest

from mnist_hpo.search.make_policy import POLICIES
from mnist_hpo.search.make_sampler import SAMPLERS
from mnist_hpo.search.options import plain_options
from mnist_hpo.search.policies.asha import DEFAULT_OPTIONS
from mnist_hpo.search.pruners import PRUNERS, default_options
from mnist_hpo.spec.study import Budget

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search_methods.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
MAX_EPOCHS = 77
SET_BY_THE_PLATFORM = ("seed", "asked", "search_space", "budget")


def options() -> dict[tuple[str, str], object]:
    """Return the default of each option, by method and option."""
    found: dict[tuple[str, str], object] = {("asha", name): value for name, value in DEFAULT_OPTIONS.items()}
    for method, kind in (SAMPLERS | PRUNERS).items():
        known = inspect.signature(kind.__init__).parameters
        own = {name: known[name].default for name in plain_options(kind, SET_BY_THE_PLATFORM)}
        own |= default_options(method, Budget(n_trials=1, max_epochs=MAX_EPOCHS)) if method in PRUNERS else {}
        found |= {(method, name): value for name, value in own.items()}
    return found


def written(default: object) -> str:
    text = default if isinstance(default, str) else json.dumps(default)
    return "`budget.max_epochs`" if default == MAX_EPOCHS else f"`{text}`"


def test_the_table_lists_every_option_and_its_default() -> None:
    table = [row for row in ROWS if len(row) == 5]
    listed = {(method.strip("`"), option.strip("`")): default for method, option, default, *_ in table}
    assert len(listed) == len(table), "no option is listed twice"
    assert listed == {key: written(default) for key, default in options().items()}


@pytest.mark.parametrize("name", [*SAMPLERS, *PRUNERS, *POLICIES.names])
def test_every_method_is_described(name: str) -> None:
    assert f"| `{name}` |" in PAGE
