"""Run the study in ways that leave MLflow's record incomplete."""

import os

from command import Folder, Outcome


def run_incompletely(folder: Folder, **environment: str) -> Outcome:
    """Run the study to its end and assert exit code 3: MLflow's record is incomplete."""
    outcome = folder.call("run", "small.yaml", "--json", "--workers", "1", **environment)
    assert outcome.code == 3, outcome
    assert outcome.err.count("MLflow does not hold all of the study") == 1
    return outcome


def package(folder: Folder, name: str, text: str) -> str:
    """Write a package that only executes `text` when imported; return a PYTHONPATH that contains it."""
    (folder.path / "packages" / name).mkdir(parents=True)
    (folder.path / "packages" / name / "__init__.py").write_text(text)
    return os.pathsep.join(filter(None, [str(folder.path / "packages"), os.environ.get("PYTHONPATH")]))
