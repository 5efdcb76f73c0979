"""A clock that jumps by days, in the coordinator and in the workers, does not change the results or their order."""

from pathlib import Path
from typing import Any

import pytest
from command import Folder

JUMPING_CLOCK = """\
import random
import time

honest = time.time
time.time = lambda: honest() + random.uniform(-1e6, 1e6)
"""


@pytest.mark.slow
def test_a_jumping_clock_does_not_change_the_results(
    folder: Folder, status: dict[str, Any], trials: list[dict[str, Any]], tmp_path_factory: Any
) -> None:
    # Python imports a module of this name when it starts.
    site: Path = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(JUMPING_CLOCK)
    ended = folder.run(PYTHONPATH=str(site)).json()
    assert ended["history_sha256"] == status["history_sha256"]
    assert folder.trials() == trials
