"""The README's example of the Python API runs unchanged."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import ENVIRONMENT, ROOT, SMALL, TIMEOUT_S

from mnist_hpo.data.prepared import PreparedDataset


@pytest.mark.slow
def test_the_example_runs_unchanged(tmp_path: Path, mnist: PreparedDataset) -> None:
    """A small study takes the place of the quickstart."""
    section = (ROOT / "README.md").read_text().split("## From Python\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "quickstart.yaml").write_text(SMALL.replace("name: small", "name: quickstart"))
    ended = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert "\nexact 0.9" in ended.stdout
    assert "(2, 10)" in ended.stdout
    assert ended.stdout.rstrip().endswith("there are quickstart")
    # Outside a terminal and a notebook, progress is one line at the start and one at the end.
    assert [line for line in ended.stderr.splitlines() if "quickstart: " in line][-1].startswith("quickstart: 8 of 8")
