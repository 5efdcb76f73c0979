"""The URL of a storage of each kind that needs no server: SQLite and a journal file."""

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:///{tmp_path}/state/optuna.{request.param}"
