"""Runs of the study of which MLflow does not get everything."""

import os

from command import Folder, Outcome


def run_incompletely(folder: Folder, **environment: str) -> Outcome:
    """Run the study to its end; the exit code says that MLflow does not hold all of it."""
    outcome = folder.call("run", "small.yaml", "--json", "--workers", "1", **environment)
    assert outcome.code == 3, outcome
    assert outcome.err.count("MLflow does not hold all of the study") == 1
    return outcome


def package(folder: Folder, name: str, text: str) -> str:
    """A PYTHONPATH with a package of this name that does only this when it is imported."""
    (folder.path / "packages" / name).mkdir(parents=True)
    (folder.path / "packages" / name / "__init__.py").write_text(text)
    return os.pathsep.join(filter(None, [str(folder.path / "packages"), os.environ.get("PYTHONPATH")]))
