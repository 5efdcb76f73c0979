"""Real storages of the two kinds that need no server."""

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:///{tmp_path}/state/optuna.{request.param}"
